// How the attention kernels share out their work. One rule for every ISA.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace tiercel::kernels {

// True when worker i of `workers` computes exactly the KV heads SplitRange(num_kv_heads, 1, i) of
// every sequence: those whose q, k and v it wrote itself in qk_norm_rope. Then no barrier is
// needed between the two. Otherwise any worker may compute any part, and a barrier must precede
// attention; nobody can assume who wrote which part of `out` in either case after a barrier.
inline bool AttentionOwnsGroups(int num_kv_heads, int workers) {
  return num_kv_heads % workers == 0;
}

// A tile: consecutive tokens of one sequence, all query heads of one KV head.
struct AttentionTile {
  int seq = 0;
  int kv_head = 0;
  int64_t first_row = 0;  // row of q and out
  int tokens = 0;
  int64_t first_visible = 0;  // keys that the first token sees; the next one sees one more
};

// Walks the tiles of one share, each at most `max_tokens` long. If the groups are not owned, tiles
// go to workers in contiguous runs of about equal cost; that choice never changes a result.
class AttentionTiles {
 public:
  AttentionTiles(const AttentionArgs& args, Share share, int max_tokens);
  bool Next(AttentionTile* tile);

 private:
  AttentionTile Current() const;
  double Cost(const AttentionTile& tile) const;

  const AttentionArgs& args_;
  const int max_tokens_;
  bool owned_;
  Range heads_;
  double begin_cost_ = 0;  // takes the tiles whose middle lies in [begin, end)
  double end_cost_ = 0;
  double cost_ = 0;
  int seq_ = 0;
  int64_t head_ = 0;
  int64_t token_ = 0;  // of the sequence's tokens in this step
};

}  // namespace tiercel::kernels
