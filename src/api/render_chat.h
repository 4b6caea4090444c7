// RenderChat: from messages to the prompt's text.
#pragma once

#include <string>

#include "api/errors.h"
#include "api/options.h"
#include "api/request.h"

namespace tiercel::api {

// Renders the request's own chat template or the model's, continue_final_message included. A
// template that fails is the request's fault. Pure; any thread.
Result<std::string> RenderChat(const ChatInput& chat, const ModelInfo& model);

// Whether the model's template takes the content of messages as a list of parts: it writes their texts.
bool TakesParts(const ModelInfo& model);

// The text of the last message, or of its last part; empty if there is none.
std::string_view FinalContent(const ChatInput& chat);

}  // namespace tiercel::api
