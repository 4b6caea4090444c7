// LogprobsWriter: the log-probabilities of completions, chat completions and responses, token by token.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/response_plan.h"
#include "engine/engine.h"

namespace tiercel::api {

// Gathers entries until they are taken by a chunk or by the whole body. A token is shown as the text
// that it adds: of the tokens that make up one character the last one shows it and the others show
// nothing, so the tokens joined are the text. For completions the text offsets count characters and
// go on over the chunks of one choice.
class LogprobsWriter {
 public:
  explicit LogprobsWriter(const ResponsePlan& plan) : plan_(plan) {}

  void Add(const engine::OutputToken& token);
  // A token of the prompt that is echoed; the first one has no probability (`top` empty). The text
  // of the prompt ends with its last token, even within a character.
  void AddPrompt(int32_t token, std::span<const engine::TokenLogprob> top, bool is_last);

  bool empty() const { return num_entries_ == 0; }
  int64_t pending_bytes() const {
    return static_cast<int64_t>(entries_.size() + offsets_.size() + token_logprobs_.size() +
                                tokens_.size());
  }
  // Appends the object of what was gathered and forgets it; "null" if there is nothing.
  void TakeTo(std::string* out);
  // Of chats and responses: the entries alone, with commas between them.
  std::string TakeEntries();

 private:
  // Entries of a chat's form, or those of completions.
  bool is_chat() const { return plan_.protocol != Protocol::kCompletions; }
  bool IsSkipped(int32_t token) const;  // of an output
  std::string AddedText(int32_t token) const;
  std::string Label(int32_t token) const;
  void TakeBytes(int32_t token);
  // `characters`: that the token adds to the text.
  void AddCompletionEntry(int32_t token, std::span<const engine::TokenLogprob> top,
                          const std::string& label, int64_t characters);
  void AddChatEntry(int32_t token, std::span<const engine::TokenLogprob> top);
  void AppendChatToken(int32_t token, float logprob);

  const ResponsePlan& plan_;
  std::string unfinished_;  // bytes of a character that the last tokens began
  int64_t text_offset_ = 0;
  int64_t num_entries_ = 0;
  // The arrays' insides. Chat uses entries_ alone.
  std::string entries_, offsets_, token_logprobs_, tokens_;
};

// The `prompt_logprobs` field: [null, {"id":{"logprob":…,"rank":…,"decoded_token":…}}, …].
// [i] of `logprobs` belongs to prompt token i.
void AppendPromptLogprobs(std::string* out,
                          const std::vector<std::vector<engine::TokenLogprob>>& logprobs,
                          const ResponsePlan& plan);

// Characters that begin in these bytes.
int64_t CountCharacters(std::string_view bytes);

}  // namespace tiercel::api
