// What completions and chat completions have in common: the head of a body or chunk, usage, ends.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer_writer.h"
#include "api/logprobs_writer.h"

namespace tiercel::api {

// The word of finish_reason.
std::string_view FinishName(OutputEnd end);

class OpenAiWriter : public AnswerWriter {
 public:
  // `object` and `chunk_object`: the names of a body and of a chunk.
  OpenAiWriter(const Answer& answer, std::string_view object, std::string_view chunk_object);

  void AddTokens(int choice, std::span<const engine::OutputToken> tokens) final;
  int64_t pending_bytes(int choice) const final;
  void AppendEnd(std::string* out) final;
  std::string TakeBody() final;

 protected:
  // Of one choice: what was not written yet.
  struct Tokens {
    explicit Tokens(const ResponsePlan& plan) : logprobs(plan) {}
    LogprobsWriter logprobs;
    std::vector<int32_t> ids;
  };

  // The members of a choice of the whole body, from "index" on, without its braces.
  virtual void AppendChoice(int choice, std::string* out) = 0;
  // Members of the whole body that stand behind "usage".
  virtual void AppendBodyMembers(std::string* out) = 0;

  const ResponsePlan& plan() const { return answer_.plan; }
  Tokens& tokens(int choice) { return tokens_[static_cast<size_t>(choice)]; }
  // From {"id" to the bracket that opens "choices".
  void AppendHead(std::string_view object, std::string* out) const;
  void AppendChunkHead(std::string* out) const { AppendHead(chunk_object_, out); }
  void AppendUsage(const Usage& usage, std::string* out) const;
  // "finish_reason":…, and "stop_reason":… with it if wanted.
  void AppendFinish(int choice, bool with_stop_reason, std::string* out) const;
  // "token_ids":…; forgets them.
  void TakeTokenIds(int choice, std::string* out);

  const Answer& answer_;

 private:
  const std::string_view object_, chunk_object_;
  std::vector<Tokens> tokens_;
};

void AppendIdsOrNull(const std::vector<int32_t>* ids, std::string* out);

}  // namespace tiercel::api
