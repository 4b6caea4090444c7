// Chat messages and tools as templates want them, from what clients send.
#pragma once

#include <optional>
#include <string>

#include "api/fields.h"
#include "api/request.h"

namespace tiercel::api {

// Reads messages, tools, tool_choice, chat_template(_kwargs), … into `chat`:
// - content becomes one string: null and absent are "", text parts are joined with "\n" (or, where the
//   template takes it so, a list of text parts); parts of other kinds are refused (the model is text
//   only; no URL or file of a request is ever opened);
// - developer is rendered as system;
// - an assistant's reasoning is given under both names, `reasoning` and `reasoning_content`;
// - the arguments of tool_calls are parsed, so that the template prints them as JSON.
std::optional<ApiError> ReadChatInput(Fields& fields, const ApiOptions& options, ChatInput* chat);

// {"type": "text", "text": …}
Json TextPart(std::string text);

// The name of a tool's function; null if it has none.
const std::string* FunctionName(const Json& tool);

struct ToolChoice {
  enum Kind { kNone, kAuto, kRequired, kNamed };
  Kind kind = kNone;
  std::string name;  // of kNamed
};

// Checks tool_choice against tools. Applies --exclude-tools-when-tool-choice-none.
Result<ToolChoice> ReadToolChoice(Fields& fields, const ApiOptions& options, ChatInput* chat);

}  // namespace tiercel::api
