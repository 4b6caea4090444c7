// Graph modes: which steps replay a Program that was recorded before, and which record anew.
// Names and rules are those of vLLM's compilation config.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "model/program.h"

namespace tiercel::model {

enum class GraphMode {
  kNone,            // every step records its Program anew (--enforce-eager)
  kFullDecodeOnly,  // steps of one token per sequence replay a captured Program
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

// The batch sizes to capture, ascending without duplicates. By default 1, 2, 4, every 8th below
// 256 and every 16th from there up to min(2 · max_num_seqs, 512), and max_num_seqs itself, so that
// the largest batch is captured too; none above max_num_batched_tokens. InvalidArgument, in vLLM's words, if
// no size is left.
Expected<std::vector<int64_t>> ResolveCaptureSizes(const CaptureOptions& options);

// One Program per captured batch size.
class GraphCache {
 public:
  void Add(int64_t size, Program program);  // in ascending order of size
  // The smallest captured size that holds `batch` rows, and its Program; null if there is none.
  const std::pair<int64_t, Program>* Find(int64_t batch) const;
  bool empty() const { return programs_.empty(); }

 private:
  std::vector<std::pair<int64_t, Program>> programs_;
};

}  // namespace tiercel::model
