// ChoiceWriter: one choice of an answer, from engine tokens to JSON.
//
//   tokens → Detokenizer (stop strings) → TakeText → pending text → chunk or message
//
// Both ways out empty the same pending state: a streamed answer takes it chunk by chunk, another
// takes all of it once at the end. So what is streamed adds up to what is not streamed.
// Parsers for reasoning and tool calls will stand in TakeText, between text and pending state.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/logprobs_writer.h"
#include "api/response_plan.h"
#include "engine/engine.h"
#include "text/detokenizer.h"

namespace tiercel::api {

class ChoiceWriter {
 public:
  // `plan` must outlive this. `index` is the choice's.
  ChoiceWriter(const ResponsePlan& plan, int index);

  // The prompt as text and, with echo_logprobs, as entries; before the first Consume.
  void Echo(const std::string& text, const std::vector<int32_t>& token_ids,
            const std::vector<std::vector<engine::TokenLogprob>>& logprobs);

  // Takes what a step gave. True if a stop string has just ended the choice: the sample must be
  // stopped, and nothing more is consumed.
  bool Consume(const engine::StreamEvent& event);

  bool finished() const { return !finish_reason_.empty(); }
  int64_t pending_bytes() const;
  int64_t completion_tokens() const { return completion_tokens_; }

  // Whether a chunk is due: text beyond the interval, the first text, or the end.
  bool ChunkDue() const;
  // Appends the members of the choice object, from "index" on, without its braces; empties what
  // is pending. `prompt_token_ids`: shown in a completion's first chunk, else null.
  void AppendChunkChoice(std::string* out, const std::vector<int32_t>* prompt_token_ids);
  // The same for a whole answer.
  void AppendChoice(std::string* out, const std::vector<int32_t>* prompt_token_ids,
                    const std::vector<std::vector<engine::TokenLogprob>>* prompt_logprobs);

 private:
  void TakeText(std::string_view text) { pending_text_ += text; }
  void AddToken(const engine::OutputToken& token, bool is_stop_token);
  void Finish(std::string_view reason, std::string stop_reason_json);
  // "finish_reason":…,"stop_reason":…
  void AppendFinish(std::string* out) const;
  void AppendTokenIds(std::string* out);

  const ResponsePlan& plan_;
  const int index_;
  text::Detokenizer detokenizer_;
  LogprobsWriter logprobs_;
  std::string pending_text_;
  std::vector<int32_t> pending_token_ids_;
  int64_t pending_tokens_ = 0;
  int64_t completion_tokens_ = 0;
  bool wrote_text_ = false;
  bool end_written_ = false;
  std::string finish_reason_;
  std::string stop_reason_json_ = "null";
};

}  // namespace tiercel::api
