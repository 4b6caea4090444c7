#include "api/openai_writer.h"

#include "api/json_writer.h"

namespace tiercel::api {

std::string_view FinishName(OutputEnd end) {
  switch (end) {
    case OutputEnd::kStop: return "stop";
    case OutputEnd::kLength: return "length";
    case OutputEnd::kRepetition: return "repetition";
    case OutputEnd::kAbort: return "abort";
    case OutputEnd::kToolCalls: return "tool_calls";
  }
  return "";
}

void AppendIdsOrNull(const std::vector<int32_t>* ids, std::string* out) {
  if (ids != nullptr) {
    AppendJsonInts(out, *ids);
  } else {
    out->append("null");
  }
}

OpenAiWriter::OpenAiWriter(const Answer& answer, std::string_view object,
                           std::string_view chunk_object)
    : answer_(answer),
      object_(object),
      chunk_object_(chunk_object),
      tokens_(answer.choices.size(), Tokens(answer.plan)) {}

void OpenAiWriter::AddTokens(int choice, std::span<const engine::OutputToken> added) {
  Tokens& kept = tokens(choice);
  for (const engine::OutputToken& token : added) {
    if (plan().logprobs) kept.logprobs.Add(token);
    if (plan().return_token_ids) kept.ids.push_back(token.token);
  }
}

int64_t OpenAiWriter::pending_bytes(int choice) const {
  const Tokens& kept = tokens_[static_cast<size_t>(choice)];
  return static_cast<int64_t>(kept.ids.size() * sizeof(int32_t)) + kept.logprobs.pending_bytes();
}

void OpenAiWriter::AppendHead(std::string_view object, std::string* out) const {
  out->append(R"({"id":)");
  AppendJsonString(out, plan().id);
  out->append(R"(,"object":")").append(object).append(R"(","created":)");
  AppendJsonInt(out, plan().created);
  out->append(R"(,"model":)");
  AppendJsonString(out, plan().model);
  out->append(R"(,"choices":[)");
}

void OpenAiWriter::AppendUsage(const Usage& usage, std::string* out) const {
  out->append(R"({"prompt_tokens":)");
  AppendJsonInt(out, usage.prompt_tokens);
  out->append(R"(,"total_tokens":)");
  AppendJsonInt(out, usage.prompt_tokens + usage.completion_tokens);
  out->append(R"(,"completion_tokens":)");
  AppendJsonInt(out, usage.completion_tokens);
  out->append(R"(,"prompt_tokens_details":)");
  if (plan().prompt_tokens_details) {
    out->append(R"({"cached_tokens":)");
    AppendJsonInt(out, usage.cached_tokens);
    out->push_back('}');
  } else {
    out->append("null");
  }
  if (plan().tells_thought()) {
    out->append(R"(,"completion_tokens_details":{"reasoning_tokens":)");
    AppendJsonInt(out, usage.reasoning_tokens);
    out->push_back('}');
  }
  out->push_back('}');
}

void OpenAiWriter::AppendFinish(int choice, bool with_stop_reason, std::string* out) const {
  const std::optional<OutputFinish>& finish = answer_.choice(choice).finish();
  out->append(R"(,"finish_reason":)");
  if (finish) {
    const bool is_named = finish->end == OutputEnd::kToolCalls && plan().names_tool;
    const OutputEnd end = is_named ? OutputEnd::kStop : finish->end;
    out->append("\"").append(FinishName(end)).append("\"");
  } else {
    out->append("null");
  }
  if (!with_stop_reason) return;
  out->append(R"(,"stop_reason":)");
  if (finish && std::holds_alternative<std::string>(finish->stop)) {
    AppendJsonString(out, std::get<std::string>(finish->stop));
  } else if (finish && std::holds_alternative<int32_t>(finish->stop)) {
    AppendJsonInt(out, std::get<int32_t>(finish->stop));
  } else {
    out->append("null");
  }
}

void OpenAiWriter::TakeTokenIds(int choice, std::string* out) {
  std::vector<int32_t>& ids = tokens(choice).ids;
  out->append(R"(,"token_ids":)");
  AppendIdsOrNull(plan().return_token_ids ? &ids : nullptr, out);
  ids.clear();
}

void OpenAiWriter::AppendEnd(std::string* out) {
  if (plan().include_usage) {
    out->append("data: ");
    AppendChunkHead(out);
    out->append(R"(],"usage":)");
    AppendUsage(answer_.WholeUsage(), out);
    out->append("}\n\n");
  }
  out->append("data: [DONE]\n\n");
}

std::string OpenAiWriter::TakeBody() {
  std::string out;
  AppendHead(object_, &out);
  for (int i = 0; i < answer_.num_choices(); ++i) {
    out.append(i > 0 ? ",{" : "{");
    AppendChoice(i, &out);
    out.push_back('}');
  }
  out.append(R"(],"service_tier":null,"system_fingerprint":)");
  if (plan().fingerprint.empty()) {
    out.append("null");
  } else {
    AppendJsonString(&out, plan().fingerprint);
  }
  out.append(R"(,"usage":)");
  AppendUsage(answer_.WholeUsage(), &out);
  AppendBodyMembers(&out);
  out.append(R"(,"kv_transfer_params":null})");
  return out;
}

}  // namespace tiercel::api
