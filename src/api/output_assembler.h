// OutputAssembler: one choice of an answer, from the engine's tokens to what its client is shown. It
// knows no JSON and no sockets: the writers of the protocols take its deltas.
//
//   tokens → Detokenizer (stop strings) → text → reasoning, content, tool calls → pending delta
//
// A streamed answer takes the pending delta piece by piece, another takes all of it once at the end.
// So what is streamed adds up to what is not streamed, whatever the protocol.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "api/response_plan.h"
#include "engine/engine.h"
#include "text/detokenizer.h"

namespace tiercel::api {

// What an answer has grown by.
struct OutputDelta {
  std::string content;
  int64_t num_tokens = 0;  // that were read meanwhile, shown or held back

  bool shows_anything() const { return !content.empty(); }
  int64_t bytes() const { return static_cast<int64_t>(content.size()); }
};

enum class OutputEnd { kStop, kLength, kAbort };

// Why a choice has ended, and with kStop by what: nothing for the end of sequence, a stop token, or
// a stop string.
struct OutputFinish {
  OutputEnd end = OutputEnd::kStop;
  std::variant<std::monostate, int32_t, std::string> stop;
};

class OutputAssembler {
 public:
  // `plan` must outlive this.
  explicit OutputAssembler(const ResponsePlan& plan);

  // Text that is shown before the output; before the first Consume.
  void Echo(std::string_view text) { pending_.content += text; }

  // Takes what a step gave, and returns how many of its tokens belong to the answer: fewer than it
  // has if a stop string ended the choice, whose sample must then be stopped (stopped_early()).
  size_t Consume(const engine::StreamEvent& event);

  // Whether a stop string ended the choice before the engine did.
  bool stopped_early() const { return stopped_early_; }
  const std::optional<OutputFinish>& finish() const { return finish_; }
  int64_t completion_tokens() const { return completion_tokens_; }

  const OutputDelta& pending() const { return pending_; }
  OutputDelta Take() { return std::exchange(pending_, {}); }

 private:
  void AddText(std::string_view text) { pending_.content += text; }
  void AddToken(int32_t token, bool is_stop_token);
  void Finish(OutputFinish finish);

  const ResponsePlan& plan_;
  text::Detokenizer detokenizer_;
  OutputDelta pending_;
  int64_t completion_tokens_ = 0;
  bool stopped_early_ = false;
  std::optional<OutputFinish> finish_;
};

}  // namespace tiercel::api
