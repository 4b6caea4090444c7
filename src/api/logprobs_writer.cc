#include "api/logprobs_writer.h"

#include <algorithm>
#include <unordered_set>

#include "api/json_writer.h"

namespace tiercel::api {

namespace {

std::string TokenLabel(int32_t token, const ResponsePlan& plan) {
  if (plan.tokens_as_token_ids) return fmt::format("token_id:{}", token);
  return ValidUtf8(plan.tokenizer->TokenBytes(token));
}

}  // namespace

int64_t CountCharacters(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  });
}

void LogprobsWriter::Add(const engine::OutputToken& token) {
  if (plan_.is_chat) {
    AddChatEntry(token.token, token.top);
  } else {
    const bool skipped =
        plan_.detokenizer.skip_special_tokens && plan_.tokenizer->IsSpecial(token.token);
    AddCompletionEntry(token.token, token.top, skipped);
  }
}

void LogprobsWriter::AddPrompt(int32_t token, std::span<const engine::TokenLogprob> top) {
  AddCompletionEntry(token, top, false);
}

void LogprobsWriter::AddCompletionEntry(int32_t token, std::span<const engine::TokenLogprob> top,
                                        bool skipped) {
  if (num_entries_++ > 0) {
    for (std::string* array : {&entries_, &offsets_, &token_logprobs_, &tokens_}) {
      array->push_back(',');
    }
  }
  AppendJsonInt(&offsets_, text_offset_);
  if (!skipped) text_offset_ += CountCharacters(plan_.tokenizer->TokenBytes(token));
  AppendJsonString(&tokens_, TokenLabel(token, plan_));
  if (top.empty()) {
    token_logprobs_ += "null";
    entries_ += "null";
    return;
  }
  AppendJsonLogprob(&token_logprobs_, top[0].logprob);
  // An object's keys are unique: of tokens with the same text the more likely one is shown, and
  // the chosen token before all.
  std::unordered_set<std::string> seen;
  entries_.push_back('{');
  for (const engine::TokenLogprob& candidate : top) {
    std::string label = TokenLabel(candidate.token, plan_);
    if (!seen.insert(label).second) continue;
    if (seen.size() > 1) entries_.push_back(',');
    AppendJsonString(&entries_, label);
    entries_.push_back(':');
    AppendJsonLogprob(&entries_, candidate.logprob);
  }
  entries_.push_back('}');
}

void LogprobsWriter::AppendChatToken(int32_t token, float logprob) {
  entries_ += R"({"token":)";
  AppendJsonString(&entries_, TokenLabel(token, plan_));
  entries_ += R"(,"logprob":)";
  AppendJsonLogprob(&entries_, logprob);
  entries_ += R"(,"bytes":[)";
  bool is_first = true;
  for (const char byte : plan_.tokenizer->TokenBytes(token)) {
    if (!is_first) entries_.push_back(',');
    is_first = false;
    AppendJsonInt(&entries_, static_cast<unsigned char>(byte));
  }
  entries_.push_back(']');
}

void LogprobsWriter::AddChatEntry(int32_t token, std::span<const engine::TokenLogprob> top) {
  if (num_entries_++ > 0) entries_.push_back(',');
  AppendChatToken(token, top.empty() ? -9999.0f : top[0].logprob);
  entries_ += R"(,"top_logprobs":[)";
  // top[0] is the chosen token, then come the most likely ones: those are what was asked for.
  const size_t wanted = *plan_.logprobs < 0 ? top.size() : static_cast<size_t>(*plan_.logprobs);
  for (size_t i = 1; i < top.size() && i <= wanted; ++i) {
    if (i > 1) entries_.push_back(',');
    AppendChatToken(top[i].token, top[i].logprob);
    entries_.push_back('}');
  }
  entries_ += "]}";
}

void LogprobsWriter::TakeTo(std::string* out) {
  if (num_entries_ == 0) {
    out->append("null");
    return;
  }
  if (plan_.is_chat) {
    out->append(R"({"content":[)").append(entries_).append("]}");
  } else {
    out->append(R"({"text_offset":[)").append(offsets_);
    out->append(R"(],"token_logprobs":[)").append(token_logprobs_);
    out->append(R"(],"tokens":[)").append(tokens_);
    out->append(R"(],"top_logprobs":[)").append(entries_).append("]}");
  }
  num_entries_ = 0;
  for (std::string* array : {&entries_, &offsets_, &token_logprobs_, &tokens_}) array->clear();
}

namespace {

// The rank of a prompt's own token, which stands first. One of the most likely is shown by its place
// among them, as in vLLM, whose map of tokens keeps the later of two entries: of tokens that tie the
// first entry would count all.
int64_t RankOfOwn(const std::vector<engine::TokenLogprob>& entries) {
  const int32_t own = entries.front().token;
  const auto place = std::find_if(entries.begin() + 1, entries.end(),
                                  [own](const auto& entry) { return entry.token == own; });
  return place != entries.end() ? place->rank : entries.front().rank;
}

}  // namespace

void AppendPromptLogprobs(std::string* out,
                          const std::vector<std::vector<engine::TokenLogprob>>& logprobs,
                          const ResponsePlan& plan) {
  out->push_back('[');
  for (size_t i = 0; i < logprobs.size(); ++i) {
    if (i > 0) out->push_back(',');
    if (logprobs[i].empty()) {
      out->append("null");
      continue;
    }
    out->push_back('{');
    std::unordered_set<int32_t> seen;
    for (const engine::TokenLogprob& candidate : logprobs[i]) {
      if (!seen.insert(candidate.token).second) continue;
      if (seen.size() > 1) out->push_back(',');
      out->push_back('"');
      AppendJsonInt(out, candidate.token);
      out->append(R"(":{"logprob":)");
      AppendJsonLogprob(out, candidate.logprob);
      out->append(R"(,"rank":)");
      AppendJsonInt(out, seen.size() == 1 ? RankOfOwn(logprobs[i]) : candidate.rank);
      out->append(R"(,"decoded_token":)");
      AppendJsonString(out, plan.tokenizer->TokenBytes(candidate.token));
      out->push_back('}');
    }
    out->push_back('}');
  }
  out->push_back(']');
}

}  // namespace tiercel::api
