#include "api/output_assembler.h"

#include <utility>

namespace tiercel::api {

namespace {

using engine::FinishReason;

OutputEnd EndOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return OutputEnd::kStop;
    case FinishReason::kLength: return OutputEnd::kLength;
    case FinishReason::kNone:
    case FinishReason::kAbort:
    case FinishReason::kError: break;
  }
  return OutputEnd::kAbort;
}

}  // namespace

OutputAssembler::OutputAssembler(const ResponsePlan& plan)
    : plan_(plan), detokenizer_(*plan.tokenizer, plan.detokenizer) {}

void OutputAssembler::AddToken(int32_t token, bool is_stop_token) {
  ++completion_tokens_;
  ++pending_.num_tokens;
  // The token that stops is no part of the text, as in vLLM.
  if (!is_stop_token || plan_.include_stop_token_text) AddText(detokenizer_.Append(token));
}

void OutputAssembler::Finish(OutputFinish finish) { finish_ = std::move(finish); }

size_t OutputAssembler::Consume(const engine::StreamEvent& event) {
  if (finish_) return 0;
  if (plan_.prompt_only) {
    if (event.finish != FinishReason::kNone) Finish({OutputEnd::kLength, {}});
    return 0;
  }
  const size_t count = event.tokens.size();
  for (size_t i = 0; i < count; ++i) {
    AddToken(event.tokens[i].token, i + 1 == count && event.finish == FinishReason::kStop);
    if (const auto stop = detokenizer_.matched_stop()) {
      stopped_early_ = event.finish == FinishReason::kNone;
      Finish({OutputEnd::kStop, std::string(*stop)});
      return i + 1;
    }
  }
  if (event.finish != FinishReason::kNone) {
    AddText(detokenizer_.Finish());
    OutputFinish finish{EndOf(event.finish), {}};
    if (event.stop_token) finish.stop = *event.stop_token;
    Finish(std::move(finish));
  }
  return count;
}

}  // namespace tiercel::api
