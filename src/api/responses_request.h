// The body of POST /v1/responses as that of a chat.
#pragma once

#include <string>

#include "api/errors.h"
#include "api/json.h"

namespace tiercel::api {

struct ResponsesBody {
  Json chat;         // a body of /v1/chat/completions
  std::string echo;  // what of the request its response repeats: members of JSON, with a comma behind each
};

// Large contents are moved out of `body`. Responses are not kept: what names an earlier one is refused.
Result<ResponsesBody> ChatBodyOfResponses(Json body);

}  // namespace tiercel::api
