// Anthropic's Messages, read as a chat request.
#pragma once

#include "api/errors.h"
#include "api/json.h"
#include "api/options.h"

namespace tiercel::api {

// The body of POST /v1/messages (or of /count_tokens: `needs_max_tokens` false) as the body of a chat
// request that asks for the same:
// - `system`, a string or blocks, comes first as a message of that role;
// - tool_use blocks become tool_calls, each tool_result block a message of the role tool, before the
//   other content of its message; thinking blocks become reasoning;
// - tools, tool_choice, stop_sequences and `thinking` get their names there.
// What is wrong is found here where names or places differ, so that faults have those of this body, and by the
// chat request else.
Result<Json> ChatBodyOfMessages(Json body, bool needs_max_tokens, const ApiOptions& options);

}  // namespace tiercel::api
