// OutputAssembler: one choice of an answer, from the engine's tokens to what its client is shown. It
// knows no JSON and no sockets: the writers of the protocols take its deltas.
//
//   tokens → Detokenizer (stop strings) → text → reasoning, content, tool calls → pending delta
//
// Everything that may still become something else (a stop string, a tag) is held back by the parsers.
// A streamed answer takes the pending delta piece by piece, another takes all of it once at the end.
// So what is streamed adds up to what is not streamed, whatever the protocol.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "api/response_plan.h"
#include "engine/engine.h"
#include "text/detokenizer.h"
#include "text/reasoning_parser.h"
#include "text/tool_parser.h"

namespace tiercel::api {

// What an answer has grown by, in the order in which a model writes it.
struct OutputDelta {
  std::string reasoning, content;
  std::vector<text::ToolCallPiece> calls;  // by index, one for each call
  int64_t num_tokens = 0;                  // that were read meanwhile, shown or held back

  bool shows_anything() const { return !reasoning.empty() || !content.empty() || !calls.empty(); }
  int64_t bytes() const;
};

// kToolCalls: the model stopped by itself and has called tools.
enum class OutputEnd { kStop, kLength, kRepetition, kAbort, kToolCalls };

// Why a choice has ended, and where the model stopped, by what: nothing for the end of sequence, a stop token, or
// a stop string (or the word for repetition).
struct OutputFinish {
  OutputEnd end = OutputEnd::kStop;
  std::variant<std::monostate, int32_t, std::string> stop;
};

class OutputAssembler {
 public:
  // `plan` must outlive this.
  OutputAssembler(const ResponsePlan& plan, const PromptPlan& prompt);

  // Text that is shown before the output; before the first Consume.
  void Echo(std::string_view text) { pending_.content += text; }

  // Takes what a step gave, and returns how many of its tokens belong to the answer: fewer than it
  // has if a stop string ended the choice, whose sample must then be stopped (stopped_early()).
  size_t Consume(const engine::StreamEvent& event);

  // Whether a stop string ended the choice before the engine did.
  bool stopped_early() const { return stopped_early_; }
  const std::optional<OutputFinish>& finish() const { return finish_; }
  int64_t completion_tokens() const { return completion_tokens_; }
  int64_t reasoning_tokens() const { return reasoning_tokens_; }  // of them; without tags
  // The tokens of what is said, by their place among those that were read: behind the thought and its tags, and before
  // the first call. The end is that of those that are certain so far.
  int64_t content_begin() const { return content_begin_; }
  int64_t content_end() const { return completion_tokens_ - static_cast<int64_t>(held_.size()); }
  bool has_calls() const { return tools_ != nullptr && tools_->num_calls() > 0; }

  const OutputDelta& pending() const { return pending_; }
  OutputDelta Take() { return std::exchange(pending_, {}); }

 private:
  void AddToken(int32_t token, bool is_stop_token);
  void AddText(std::string_view text);
  void AddReasoning(text::ReasoningParser::Piece piece);
  void AddContent(std::string_view content);
  void AddCalls(text::ToolParser::Piece piece);
  // What of held_ is content after all.
  void TakeHeld();
  // Shows what the parsers have held back.
  void Finish(OutputFinish finish);

  const ResponsePlan& plan_;
  text::Detokenizer detokenizer_;
  std::optional<text::ReasoningParser> reasoning_;
  std::unique_ptr<text::ToolParser> tools_;
  OutputDelta pending_;
  int64_t completion_tokens_ = 0;
  int64_t reasoning_tokens_ = 0;
  int64_t content_begin_ = 0;
  // Bytes that the tool parser has been given, and that it has shown as content.
  int64_t read_bytes_ = 0, shown_bytes_ = 0;
  std::deque<int64_t> held_;  // of the tokens that may be of a call: read_bytes_ before each
  bool stopped_early_ = false;
  std::optional<OutputFinish> finish_;
};

}  // namespace tiercel::api
