#include "api/responder.h"

#include <algorithm>

#include "api/json_writer.h"
#include "base/log.h"

namespace tiercel::api {

namespace {
constexpr std::string_view kDone = "data: [DONE]\n\n";
}

std::string ErrorEvents(const ApiError& error) {
  return fmt::format("data: {}\n\n{}", ErrorBody(error), kDone);
}

Responder::Responder(ResponsePlan plan) : plan_(std::move(plan)), prompts_(plan_.prompts.size()) {
  const int count = static_cast<int>(plan_.prompts.size()) * plan_.n;
  choices_.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) choices_.push_back(std::make_unique<ChoiceWriter>(plan_, i));
}

const std::vector<int32_t>* Responder::ShownPromptIds(int prompt) const {
  return plan_.return_token_ids ? &plan_.prompts[static_cast<size_t>(prompt)].token_ids : nullptr;
}

void Responder::TakePromptInfo(int prompt, engine::Stream* stream) {
  PromptState& state = prompts_[static_cast<size_t>(prompt)];
  if (state.known) return;
  std::optional<engine::PromptInfo> info = stream->TakePromptInfo();
  if (!info) return;
  state.known = true;
  state.info = std::move(*info);
  const PromptPlan& plan = plan_.prompts[static_cast<size_t>(prompt)];
  if (plan.echo_text.empty()) return;
  for (int sample = 0; sample < plan_.n; ++sample) {
    choices_[static_cast<size_t>(prompt * plan_.n + sample)]->Echo(plan.echo_text, plan.token_ids,
                                                                   state.info.prompt_logprobs);
  }
}

void Responder::Consume(int prompt, engine::Stream* stream) {
  TakePromptInfo(prompt, stream);
  events_.clear();
  while (stream->Poll(&events_)) {
    TakePromptInfo(prompt, stream);
    for (const engine::StreamEvent& event : events_) {
      if (event.finish == engine::FinishReason::kError) {
        LOG_ERROR("request {}: {}", plan_.id, event.error.message());
        if (!error_) error_ = FromStatus(event.error);
        continue;
      }
      ChoiceWriter& choice = *choices_[static_cast<size_t>(prompt * plan_.n + event.index)];
      if (choice.Consume(event)) stream->Stop(event.index);
    }
    events_.clear();
  }
}

bool Responder::done() const {
  return error_.has_value() ||
         std::all_of(choices_.begin(), choices_.end(), [](const auto& c) { return c->finished(); });
}

int64_t Responder::pending_bytes() const {
  int64_t bytes = 0;
  for (const auto& choice : choices_) bytes += choice->pending_bytes();
  return bytes;
}

void Responder::AppendHead(std::string* out, std::string_view object) const {
  out->append(R"({"id":)");
  AppendJsonString(out, plan_.id);
  out->append(R"(,"object":")").append(object).append(R"(","created":)");
  AppendJsonInt(out, plan_.created);
  out->append(R"(,"model":)");
  AppendJsonString(out, plan_.model);
  out->append(R"(,"choices":[)");
}

void Responder::AppendUsage(std::string* out) const {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  for (const PromptPlan& prompt : plan_.prompts) prompt_tokens += prompt.num_tokens;
  for (const auto& choice : choices_) completion_tokens += choice->completion_tokens();
  for (const PromptState& state : prompts_) cached_tokens += state.info.cached_tokens;
  out->append(R"({"prompt_tokens":)");
  AppendJsonInt(out, prompt_tokens);
  out->append(R"(,"total_tokens":)");
  AppendJsonInt(out, prompt_tokens + completion_tokens);
  out->append(R"(,"completion_tokens":)");
  AppendJsonInt(out, completion_tokens);
  out->append(R"(,"prompt_tokens_details":)");
  if (plan_.prompt_tokens_details) {
    out->append(R"({"cached_tokens":)");
    AppendJsonInt(out, cached_tokens);
    out->append("}}");
  } else {
    out->append("null}");
  }
}

void Responder::AppendRoleChunks(std::string* out) {
  for (size_t i = 0; i < choices_.size(); ++i) {
    out->append("data: ");
    AppendHead(out, "chat.completion.chunk");
    out->append(R"({"index":)");
    AppendJsonInt(out, static_cast<int64_t>(i));
    out->append(R"(,"delta":{"role":)");
    AppendJsonString(out, plan_.role);
    out->append(R"(,"content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":)");
    if (const std::vector<int32_t>* ids = ShownPromptIds(0)) {
      AppendJsonInts(out, *ids);
    } else {
      out->append("null");
    }
    if (plan_.continuous_usage) {
      out->append(R"(,"usage":)");
      AppendUsage(out);
    }
    out->append("}\n\n");
  }
}

void Responder::AppendChunk(std::string* out, int choice) {
  out->append("data: ");
  AppendHead(out, plan_.is_chat ? "chat.completion.chunk" : "text_completion");
  out->push_back('{');
  choices_[static_cast<size_t>(choice)]->AppendChunkChoice(out, ShownPromptIds(choice / plan_.n));
  out->append("}]");
  if (plan_.continuous_usage) {
    out->append(R"(,"usage":)");
    AppendUsage(out);
  } else if (!plan_.is_chat) {
    out->append(R"(,"usage":null)");
  }
  out->append("}\n\n");
}

void Responder::AppendEnd(std::string* out) {
  if (plan_.include_usage) {
    out->append("data: ");
    AppendHead(out, plan_.is_chat ? "chat.completion.chunk" : "text_completion");
    out->append(R"(],"usage":)");
    AppendUsage(out);
    out->append("}\n\n");
  }
  out->append(kDone);
}

void Responder::TakeEvents(std::string* out) {
  if (ended_) return;
  if (error_) {
    ended_ = true;
    out->append(ErrorEvents(*error_));
    return;
  }
  const bool any_due = std::any_of(choices_.begin(), choices_.end(),
                                   [](const auto& c) { return c->ChunkDue(); });
  if (plan_.is_chat && any_due && !began_) {
    began_ = true;
    AppendRoleChunks(out);
  }
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (choices_[i]->ChunkDue()) AppendChunk(out, static_cast<int>(i));
  }
  if (done()) {
    ended_ = true;
    AppendEnd(out);
  }
}

std::string Responder::TakeBody() {
  std::string out;
  AppendHead(&out, plan_.is_chat ? "chat.completion" : "text_completion");
  for (size_t i = 0; i < choices_.size(); ++i) {
    const int prompt = static_cast<int>(i) / plan_.n;
    const auto& logprobs = prompts_[static_cast<size_t>(prompt)].info.prompt_logprobs;
    if (i > 0) out.push_back(',');
    out.push_back('{');
    choices_[i]->AppendChoice(&out, ShownPromptIds(prompt),
                              plan_.prompt_logprobs ? &logprobs : nullptr);
    out.push_back('}');
  }
  out.append(R"(],"service_tier":null,"system_fingerprint":)");
  if (plan_.fingerprint.empty()) {
    out.append("null");
  } else {
    AppendJsonString(&out, plan_.fingerprint);
  }
  out.append(R"(,"usage":)");
  AppendUsage(&out);
  if (plan_.is_chat) {
    out.append(R"(,"prompt_logprobs":)");
    if (plan_.prompt_logprobs) {
      AppendPromptLogprobs(&out, prompts_[0].info.prompt_logprobs, plan_);
    } else {
      out.append("null");
    }
    out.append(R"(,"prompt_token_ids":)");
    if (const std::vector<int32_t>* ids = ShownPromptIds(0)) {
      AppendJsonInts(&out, *ids);
    } else {
      out.append("null");
    }
  }
  out.append(R"(,"kv_transfer_params":null})");
  return out;
}

}  // namespace tiercel::api
