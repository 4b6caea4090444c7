// The bodies of the routes that need no engine. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "api/errors.h"
#include "api/options.h"
#include "api/request.h"

namespace tiercel::api {

// Whole bodies of /tokenize and /detokenize.
Result<std::string> TokenizeBody(std::string_view body, const ModelInfo& model,
                                 const ApiOptions& options);
Result<std::string> DetokenizeBody(std::string_view body, const ModelInfo& model);

// The body of /v1/models.
std::string ModelsBody(const ModelInfo& model);

}  // namespace tiercel::api
