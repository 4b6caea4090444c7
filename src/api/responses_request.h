// The body of POST /v1/responses as that of a chat.
#pragma once

#include <optional>
#include <string>

#include "api/errors.h"
#include "api/json.h"
#include "api/options.h"
#include "api/response_plan.h"

namespace tiercel::api {

struct ResponsesBody {
  Json chat;         // a body of /v1/chat/completions
  std::string echo;  // what of the request its response repeats: members of JSON, with a comma behind each
  std::optional<KeepPlan> keep;  // nullopt: it is not kept
};

// Large contents are moved out of `body`. Earlier responses are looked for in the options' store.
Result<ResponsesBody> ChatBodyOfResponses(Json body, const ApiOptions& options);

}  // namespace tiercel::api
