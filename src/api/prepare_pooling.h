// From the body of an endpoint that pools to what the engine takes and what the answer looks like.
#pragma once

#include <string_view>

#include "api/pooling_plan.h"
#include "api/prepare.h"

namespace tiercel::api {

// model.pooling is there. Tokenizes: kept off the I/O threads. Pure; any thread.
Result<PreparedRequest> PreparePooling(PoolingEndpoint endpoint, std::string_view body,
                                       std::string_view request_id, const ModelInfo& model,
                                       const ApiOptions& options);

// Whether the model's chat template is one for pairs: it renders both a `query` and a `document`.
bool HasScoreTemplate(const ModelInfo& model);

}  // namespace tiercel::api
