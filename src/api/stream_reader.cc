#include "api/stream_reader.h"

#include <utility>

#include "base/log.h"

namespace tiercel::api {
namespace {

void TakePromptInfo(Answer* answer, int prompt, engine::Stream* stream, FunctionRef<void()> on_prompt) {
  PromptResult& result = answer->prompts[static_cast<size_t>(prompt)];
  if (result.known) return;
  std::optional<engine::PromptInfo> info = stream->TakePromptInfo();
  if (!info) return;
  result = {true, std::move(*info)};
  on_prompt();
}

}  // namespace

std::optional<ApiError> ReadStream(Answer* answer, int prompt, engine::Stream* stream,
                                   std::vector<engine::StreamEvent>* events,
                                   FunctionRef<void()> on_prompt,
                                   FunctionRef<void(int, std::span<const engine::OutputToken>)> on_tokens) {
  std::optional<ApiError> error;
  TakePromptInfo(answer, prompt, stream, on_prompt);
  events->clear();
  while (stream->Poll(events)) {
    TakePromptInfo(answer, prompt, stream, on_prompt);
    for (const engine::StreamEvent& event : *events) {
      if (event.finish == engine::FinishReason::kError) {
        // Once for all samples; a refusal is no fault.
        const StatusCode code = event.error.code();
        if (!error && code != StatusCode::kInvalidArgument && code != StatusCode::kUnavailable) {
          LOG_ERROR("request {}: {}", answer->plan.id, event.error.message());
        }
        if (!error) error = FromStatus(event.error);
        continue;
      }
      const int index = prompt * answer->plan.n + event.index;
      OutputAssembler& choice = answer->choice(index);
      const size_t count = choice.Consume(event);
      if (count > 0) on_tokens(index, std::span(event.tokens).first(count));
      if (count > 0 && choice.stopped_early()) stream->Stop(event.index);
    }
    events->clear();
  }
  return error;
}

}  // namespace tiercel::api
