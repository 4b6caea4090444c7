// How the attention kernels share out their work. One rule for every ISA.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace tiercel::kernels {

// True when every worker of a team, of which `any` is one's share, computes exactly its KV heads
// SplitRange(num_kv_heads, 1, share) of every sequence: those whose q, k and v it wrote itself in qk_norm_rope. Then
// no barrier is needed between the two. Otherwise any worker may compute any part, and a barrier must precede
// attention; nobody can assume who wrote which part of `out` in either case after a barrier. Whole heads are too
// coarse where workers are not equal.
inline bool AttentionOwnsGroups(int num_kv_heads, Share any) {
  return any.bounds == nullptr && num_kv_heads % any.count == 0;
}

// A row's keys are taken in segments of so many, from position 0. Each has a maximum and sums of its
// own, and a row's segments are merged in their order: so no bit depends on who took which segment.
// A multiple of every kernel's step. In BF16 at head_dim 128 a segment is 512 KiB, some 30 µs of one
// core's reading: long beside what merging it costs, about 1 µs, and a context of 16k still has 16 of them.
inline constexpr int64_t kSegmentKeys = 1024;

// A tile: consecutive tokens of one sequence, all query heads of one KV head.
struct AttentionTile {
  int seq = 0;
  int kv_head = 0;
  int64_t first_row = 0;  // row of q and out
  int tokens = 0;
  int64_t first_visible = 0;  // keys that the first token sees; the next one sees one more
  // Those that the share has of the keys that the last token sees: all, or of a cut tile (of one
  // token) whole segments.
  Range keys = {};
  int slot = -1;  // of a cut tile: the worker with its first segment, who has but one such tile

  bool IsCut() const { return slot >= 0; }
  int64_t last_visible() const { return first_visible + tokens - 1; }
};

// Walks the tiles of one share, each at most `max_tokens` long. If the groups are not owned, work goes
// to workers in contiguous runs that cost about what their shares are; that choice never changes a result. Where
// args.partials are given a run may begin and end within a tile of one token.
class AttentionTiles {
 public:
  AttentionTiles(const AttentionArgs& args, Share share, int max_tokens);
  bool Next(AttentionTile* tile);

 private:
  AttentionTile Current() const;
  int64_t Rows(const AttentionTile& tile) const;
  enum class Part { kNone, kSome, kLater };
  Part TakePart(AttentionTile* tile);

  const AttentionArgs& args_;
  const Share share_;
  const int max_tokens_;
  const bool owned_;
  Range heads_;
  int64_t total_ = 0;  // cost of all tiles
  int64_t cost_ = 0;   // of those before the next one
  int seq_ = 0;
  int64_t head_ = 0;
  int64_t token_ = 0;  // of the sequence's tokens in this step
};

// What a tile's rows have of some keys.
struct RowSums {
  float* acc = nullptr;  // [rows, head_dim]: Σ p · v
  float* max = nullptr;  // [rows]: the largest score, in the kernel's unit; p is relative to it
  float* sum = nullptr;  // [rows]: Σ p
};

// A tile's sums in a worker's scratch: of all keys, and of a segment of them.
struct TileRowSums {
  static int64_t Floats(int64_t rows, int64_t head_dim) { return 2 * rows * (head_dim + 2); }
  // Lies from `place` on, both acc aligned as it is if rows · head_dim keeps the alignment.
  TileRowSums(float* place, int64_t rows, int64_t head_dim);

  RowSums total, segment;
  float* end;  // behind them
};

// Bytes of AttentionArgs::partials for contexts of up to block_table_stride whole blocks: a slot for
// each worker of a team, of which `any` is one's share. 0 if no tile is ever cut.
int64_t AttentionPartialsBytes(const AttentionArgs& args, Share any);

// A cut tile's place in AttentionArgs::partials, where the workers that share it meet.
class CutTile {
 public:
  CutTile(const AttentionArgs& args, const AttentionTile& tile);
  // Of the segment that begins at `key`; acc is aligned to 64 bytes.
  RowSums Segment(int64_t key) const;
  // Called once by each worker that has a part, when its segments are written. True for the last of
  // them: it sees what the others wrote.
  bool Finish() const;

 private:
  const AttentionArgs& args_;
  const AttentionTile& tile_;
  char* const slot_;
};

}  // namespace tiercel::kernels
