#include "api/logprobs_writer.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "api/json_writer.h"
#include "text/utf8.h"

namespace tiercel::api {

int64_t CountCharacters(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  });
}

bool LogprobsWriter::IsSkipped(int32_t token) const {
  return plan_.detokenizer.skip_special_tokens && plan_.tokenizer->IsSpecial(token);
}

std::string LogprobsWriter::AddedText(int32_t token) const {
  std::string bytes = unfinished_;
  bytes += plan_.tokenizer->TokenBytes(token);
  return text::ValidUtf8(std::string_view(bytes).substr(0, text::CompleteUtf8Prefix(bytes)));
}

std::string LogprobsWriter::Label(int32_t token) const {
  if (plan_.tokens_as_token_ids) return fmt::format("token_id:{}", token);
  // What is left out of the text is still shown here.
  if (IsSkipped(token)) return text::ValidUtf8(plan_.tokenizer->TokenBytes(token));
  return AddedText(token);
}

void LogprobsWriter::TakeBytes(int32_t token) {
  unfinished_ += plan_.tokenizer->TokenBytes(token);
  unfinished_.erase(0, text::CompleteUtf8Prefix(unfinished_));
}

void LogprobsWriter::Add(const engine::OutputToken& token) {
  const bool skipped = IsSkipped(token.token);
  if (is_chat()) {
    AddChatEntry(token.token, token.top);
  } else {
    const std::string added = skipped ? std::string() : AddedText(token.token);
    AddCompletionEntry(token.token, token.top, Label(token.token), CountCharacters(added));
  }
  // What is no part of the text does not stand between the bytes of a character.
  if (!skipped) TakeBytes(token.token);
}

void LogprobsWriter::AddPrompt(int32_t token, std::span<const engine::TokenLogprob> top,
                               bool is_last) {
  // Special tokens of the prompt are part of its text.
  std::string added = AddedText(token);
  if (is_last) {
    TakeBytes(token);
    text::AppendValidUtf8(std::exchange(unfinished_, {}), &added);
  }
  const int64_t characters = CountCharacters(added);
  AddCompletionEntry(token, top, plan_.tokens_as_token_ids ? Label(token) : std::move(added),
                     characters);
  if (!is_last) TakeBytes(token);
}

void LogprobsWriter::AddCompletionEntry(int32_t token, std::span<const engine::TokenLogprob> top,
                                        const std::string& label, int64_t characters) {
  if (num_entries_++ > 0) {
    for (std::string* array : {&entries_, &offsets_, &token_logprobs_, &tokens_}) {
      array->push_back(',');
    }
  }
  AppendJsonInt(&offsets_, text_offset_);
  text_offset_ += characters;
  AppendJsonString(&tokens_, label);
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
    std::string shown = candidate.token == token ? label : Label(candidate.token);
    const auto [place, is_new] = seen.insert(std::move(shown));
    if (!is_new) continue;
    if (seen.size() > 1) entries_.push_back(',');
    AppendJsonString(&entries_, *place);
    entries_.push_back(':');
    AppendJsonLogprob(&entries_, candidate.logprob);
  }
  entries_.push_back('}');
}

void LogprobsWriter::AppendChatToken(int32_t token, float logprob) {
  entries_ += R"({"token":)";
  AppendJsonString(&entries_, Label(token));
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

std::string LogprobsWriter::TakeEntries() {
  num_entries_ = 0;
  return std::exchange(entries_, {});
}

void LogprobsWriter::TakeTo(std::string* out) {
  if (num_entries_ == 0) {
    out->append("null");
    return;
  }
  if (is_chat()) {
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
