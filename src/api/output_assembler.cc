#include "api/output_assembler.h"

#include <utility>

namespace tiercel::api {

namespace {

using engine::FinishReason;

OutputEnd EndOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return OutputEnd::kStop;
    case FinishReason::kLength: return OutputEnd::kLength;
    case FinishReason::kRepetition: return OutputEnd::kRepetition;
    case FinishReason::kNone:
    case FinishReason::kAbort:
    case FinishReason::kError: break;
  }
  return OutputEnd::kAbort;
}

}  // namespace

int64_t OutputDelta::bytes() const {
  size_t bytes = reasoning.size() + content.size();
  for (const text::ToolCallPiece& call : calls) bytes += call.name.size() + call.arguments.size();
  return static_cast<int64_t>(bytes);
}

OutputAssembler::OutputAssembler(const ResponsePlan& plan, const PromptPlan& prompt)
    : plan_(plan), detokenizer_(*plan.tokenizer, plan.detokenizer) {
  if (prompt.thinks) reasoning_.emplace(*prompt.thinks, /*has_tools=*/plan.max_tool_calls > 0);
  if (plan.max_tool_calls > 0) {
    tools_ = text::NewToolParser(plan.tool_format, plan.max_tool_calls, plan.tool_types);
  }
}

void OutputAssembler::AddToken(int32_t token, bool is_stop_token) {
  ++completion_tokens_;
  ++pending_.num_tokens;
  if (reasoning_ && reasoning_->thinking()) content_begin_ = completion_tokens_;
  if (tools_) held_.push_back(read_bytes_);
  // The token that stops is no part of the text, as in vLLM.
  if (!is_stop_token || plan_.include_stop_token_text) AddText(detokenizer_.Append(token));
  if (reasoning_ && reasoning_->thinking() && plan_.tokenizer->TokenBytes(token) != "<think>") {
    ++reasoning_tokens_;
  }
  TakeHeld();
}

void OutputAssembler::TakeHeld() {
  const bool waits = detokenizer_.holds_back() || (reasoning_ && reasoning_->holds_back());
  if (shown_bytes_ == read_bytes_ && !waits) held_.clear();
  while (!held_.empty() && held_.front() < shown_bytes_) held_.pop_front();
}

void OutputAssembler::AddText(std::string_view text) {
  if (reasoning_) {
    AddReasoning(reasoning_->Read(text));
  } else {
    AddContent(text);
  }
}

void OutputAssembler::AddReasoning(text::ReasoningParser::Piece piece) {
  if (plan_.include_reasoning) pending_.reasoning += piece.reasoning;
  AddContent(piece.content);
}

void OutputAssembler::AddContent(std::string_view content) {
  if (tools_) {
    read_bytes_ += static_cast<int64_t>(content.size());
    AddCalls(tools_->Read(content));
  } else {
    pending_.content += content;
  }
}

void OutputAssembler::AddCalls(text::ToolParser::Piece piece) {
  shown_bytes_ += static_cast<int64_t>(piece.content.size());
  pending_.content += piece.content;
  for (text::ToolCallPiece& call : piece.calls) {
    if (!pending_.calls.empty() && pending_.calls.back().index == call.index) {
      pending_.calls.back().arguments += call.arguments;
    } else {
      pending_.calls.push_back(std::move(call));
    }
  }
}

void OutputAssembler::Finish(OutputFinish finish) {
  if (reasoning_) AddReasoning(reasoning_->Finish());
  if (tools_) AddCalls(tools_->Finish());
  TakeHeld();
  if (!has_calls()) held_.clear();
  if (finish.end == OutputEnd::kStop && has_calls()) {
    finish.end = OutputEnd::kToolCalls;
  }
  finish_ = std::move(finish);
}

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
    if (finish.end == OutputEnd::kRepetition) finish.stop = "repetition_detected";  // vLLM's word
    Finish(std::move(finish));
  }
  return count;
}

}  // namespace tiercel::api
