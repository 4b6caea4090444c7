// Graph modes: which steps replay a Program that was recorded before, and which record anew.
// Names and rules are those of vLLM's compilation config.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/program.h"

namespace tiercel::model {

enum class GraphMode {
  kNone,            // every step records its Program anew (--enforce-eager)
  kFullDecodeOnly,  // steps of one token per sequence replay a Program recorded before
};

// cudagraph_mode, in any case. What this backend has no use for becomes its nearest: PIECEWISE
// (parts of a step) none; FULL and FULL_AND_PIECEWISE full for decodes only, as a step with a
// prefill in it is never of a captured size.
Expected<GraphMode> ParseGraphMode(std::string_view text);

struct CaptureOptions {
  std::optional<std::vector<int64_t>> sizes;  // cudagraph_capture_sizes
  std::optional<int64_t> max_size;            // max_cudagraph_capture_size
  int64_t max_num_seqs = 0;
  int64_t max_num_batched_tokens = 0;
  int64_t multiples_of = 1;  // with FlashComm the number of ranks: other sizes are left out
};

// The batch sizes to capture at the start, ascending without duplicates. Others below the largest are captured when
// they first come: to pad a step to the next size would cost up to 2 ms a row, and to record it takes 20 µs.
// By default 1, 2, 4, every 8th below 256 and every 16th from there up to min(2 · max_num_seqs, 512), and max_num_seqs
// itself, so that the largest batch is captured too; none above max_num_batched_tokens. InvalidArgument, in vLLM's
// words, if no size is left.
Expected<std::vector<int64_t>> ResolveCaptureSizes(const CaptureOptions& options);

// One Program for each size of a decode step. They stay where they are.
class GraphCache {
 public:
  Program* Add(int64_t size);  // of no size that is there
  const Program* Find(int64_t size) const;  // null: not recorded yet
  int64_t largest() const { return programs_.empty() ? 0 : programs_.rbegin()->first; }

 private:
  std::map<int64_t, Program> programs_;
};

}  // namespace tiercel::model
