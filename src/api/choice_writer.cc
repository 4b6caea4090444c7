#include "api/choice_writer.h"

#include "api/json_writer.h"

namespace tiercel::api {

namespace {

using engine::FinishReason;

std::string_view FinishName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone: return "";
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kAbort: return "abort";
    case FinishReason::kError: return "error";
  }
  return "";
}

}  // namespace

ChoiceWriter::ChoiceWriter(const ResponsePlan& plan, int index)
    : plan_(plan),
      index_(index),
      detokenizer_(*plan.tokenizer, plan.detokenizer),
      logprobs_(plan) {}

void ChoiceWriter::Echo(const std::string& text, const std::vector<int32_t>& token_ids,
                        const std::vector<std::vector<engine::TokenLogprob>>& logprobs) {
  pending_text_ += text;
  if (!plan_.echo_logprobs) return;
  for (size_t i = 0; i < token_ids.size(); ++i) {
    const bool is_last = i + 1 == token_ids.size();
    if (i < logprobs.size()) {
      logprobs_.AddPrompt(token_ids[i], logprobs[i], is_last);
    } else {
      logprobs_.AddPrompt(token_ids[i], {}, is_last);
    }
  }
}

int64_t ChoiceWriter::pending_bytes() const {
  return static_cast<int64_t>(pending_text_.size() + pending_token_ids_.size() * sizeof(int32_t)) +
         logprobs_.pending_bytes();
}

void ChoiceWriter::AddToken(const engine::OutputToken& token, bool is_stop_token) {
  ++completion_tokens_;
  ++pending_tokens_;
  if (plan_.logprobs) logprobs_.Add(token);
  if (plan_.return_token_ids) pending_token_ids_.push_back(token.token);
  // The token that stops is no part of the text, as in vLLM.
  if (!is_stop_token || plan_.include_stop_token_text) TakeText(detokenizer_.Append(token.token));
}

void ChoiceWriter::Finish(std::string_view reason, std::string stop_reason_json) {
  finish_reason_ = reason;
  stop_reason_json_ = std::move(stop_reason_json);
}

bool ChoiceWriter::Consume(const engine::StreamEvent& event) {
  if (finished()) return false;
  if (plan_.prompt_only) {
    if (event.finish == FinishReason::kNone) return false;
    Finish("length", "null");
    return false;
  }
  for (size_t i = 0; i < event.tokens.size(); ++i) {
    const bool is_last = i + 1 == event.tokens.size();
    AddToken(event.tokens[i], is_last && event.finish == FinishReason::kStop);
    if (detokenizer_.matched_stop()) {
      std::string matched;
      AppendJsonString(&matched, *detokenizer_.matched_stop());
      Finish("stop", std::move(matched));
      return event.finish == FinishReason::kNone;
    }
  }
  if (event.finish != FinishReason::kNone) {
    TakeText(detokenizer_.Finish());
    Finish(FinishName(event.finish),
           event.stop_token ? std::to_string(*event.stop_token) : std::string("null"));
  }
  return false;
}

bool ChoiceWriter::ChunkDue() const {
  if (finished()) return !end_written_;
  // Without text there is nothing to show: no run of empty chunks while text is held back.
  if (pending_text_.empty()) return false;
  return !wrote_text_ || pending_tokens_ >= plan_.stream_interval;
}

void ChoiceWriter::AppendFinish(std::string* out) const {
  out->append(R"(,"finish_reason":)");
  if (finished()) {
    out->append("\"").append(finish_reason_).append("\"");
  } else {
    out->append("null");
  }
  // In chat chunks stop_reason comes with the end alone.
  if (!plan_.is_chat || !plan_.stream || finished()) {
    out->append(R"(,"stop_reason":)").append(stop_reason_json_);
  }
}

void ChoiceWriter::AppendTokenIds(std::string* out) {
  out->append(R"(,"token_ids":)");
  if (plan_.return_token_ids) {
    AppendJsonInts(out, pending_token_ids_);
    pending_token_ids_.clear();
  } else {
    out->append("null");
  }
}

void ChoiceWriter::AppendChunkChoice(std::string* out,
                                     const std::vector<int32_t>* prompt_token_ids) {
  out->append(R"("index":)");
  AppendJsonInt(out, index_);
  if (plan_.is_chat) {
    out->append(R"(,"delta":{"content":)");
    AppendJsonString(out, pending_text_);
    out->append("}");
  } else {
    out->append(R"(,"text":)");
    AppendJsonString(out, pending_text_);
  }
  out->append(R"(,"logprobs":)");
  logprobs_.TakeTo(out);
  AppendFinish(out);
  if (!plan_.is_chat && plan_.return_token_ids) {
    out->append(R"(,"prompt_token_ids":)");
    if (prompt_token_ids != nullptr && !wrote_text_) {
      AppendJsonInts(out, *prompt_token_ids);
    } else {
      out->append("null");
    }
  }
  AppendTokenIds(out);
  pending_text_.clear();
  pending_tokens_ = 0;
  wrote_text_ = true;
  end_written_ = finished();
}

void ChoiceWriter::AppendChoice(
    std::string* out, const std::vector<int32_t>* prompt_token_ids,
    const std::vector<std::vector<engine::TokenLogprob>>* prompt_logprobs) {
  out->append(R"("index":)");
  AppendJsonInt(out, index_);
  if (plan_.is_chat) {
    out->append(R"(,"message":{"role":)");
    AppendJsonString(out, plan_.role);
    out->append(R"(,"content":)");
    AppendJsonString(out, pending_text_);
    out->append(
        R"(,"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null})");
  } else {
    out->append(R"(,"text":)");
    AppendJsonString(out, pending_text_);
  }
  out->append(R"(,"logprobs":)");
  logprobs_.TakeTo(out);
  AppendFinish(out);
  AppendTokenIds(out);
  if (plan_.is_chat) return;
  out->append(R"(,"prompt_logprobs":)");
  if (prompt_logprobs != nullptr) {
    AppendPromptLogprobs(out, *prompt_logprobs, plan_);
  } else {
    out->append("null");
  }
  out->append(R"(,"prompt_token_ids":)");
  if (prompt_token_ids != nullptr) {
    AppendJsonInts(out, *prompt_token_ids);
  } else {
    out->append("null");
  }
}

}  // namespace tiercel::api
