// From an engine's stream to the choices of an Answer: the one way, whoever shows them then.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "api/answer.h"
#include "api/errors.h"
#include "base/function_ref.h"
#include "engine/engine.h"

namespace tiercel::api {

// Takes all that `stream`, which runs answer->plan.prompts[prompt], has to give, without waiting, and
// stops samples whose stop string was found. `on_prompt`: the prompt has been computed, which comes
// before its choices' first tokens; `on_tokens`: of a choice, those that belong to the answer. Returns
// the first failure, if there is one; `events` is room that is used again.
std::optional<ApiError> ReadStream(Answer* answer, int prompt, engine::Stream* stream,
                                   std::vector<engine::StreamEvent>* events,
                                   FunctionRef<void()> on_prompt,
                                   FunctionRef<void(int, std::span<const engine::OutputToken>)> on_tokens);

}  // namespace tiercel::api
