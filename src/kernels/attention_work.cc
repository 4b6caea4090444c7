#include "kernels/attention_work.h"

#include <algorithm>

namespace tiercel::kernels {
namespace {

constexpr int64_t kLine = 64;

int64_t GroupOf(const AttentionArgs& args) { return args.num_q_heads / args.layout.num_kv_heads; }

int64_t SegmentsOf(int64_t keys) { return (keys + kSegmentKeys - 1) / kSegmentKeys; }

// The worker that has a unit of all work, in the team that `any` has a share in.
int OwnerOf(Share any, int64_t unit) {
  if (any.bounds == nullptr) return static_cast<int>(unit);
  return static_cast<int>(std::upper_bound(any.bounds, any.bounds + any.count, unit) - any.bounds) - 1;
}

// One segment of a cut tile: acc, max and sum of a group's rows, in whole lines that no other worker
// writes to.
int64_t SegmentBytes(const AttentionArgs& args) {
  const int64_t floats = GroupOf(args) * (args.layout.head_dim + 2);
  return (floats * static_cast<int64_t>(sizeof(float)) + kLine - 1) / kLine * kLine;
}

// A line for the count of finished segments, then the segments.
int64_t SlotBytes(const AttentionArgs& args) {
  return kLine + SegmentsOf(args.block_table_stride * args.layout.block_size) * SegmentBytes(args);
}

}  // namespace

AttentionTiles::AttentionTiles(const AttentionArgs& args, Share share, int max_tokens)
    : args_(args),
      share_(share),
      max_tokens_(max_tokens),
      owned_(AttentionOwnsGroups(args.layout.num_kv_heads, share)),
      heads_{0, args.layout.num_kv_heads} {
  if (owned_) {
    heads_ = SplitRange(args.layout.num_kv_heads, 1, share);
  } else {
    for (seq_ = 0; seq_ < args_.num_seqs; ++seq_) {
      for (token_ = 0;; token_ += max_tokens_) {
        const AttentionTile tile = Current();
        if (tile.tokens <= 0) break;
        total_ += Rows(tile) * tile.keys.end;
      }
    }
    total_ *= args.layout.num_kv_heads;
  }
  seq_ = 0;
  token_ = 0;
  head_ = heads_.begin;
}

AttentionTile AttentionTiles::Current() const {
  const int64_t begin = args_.query_start[seq_];
  const int64_t tokens = args_.query_start[seq_ + 1] - begin;
  AttentionTile tile;
  tile.seq = seq_;
  tile.kv_head = static_cast<int>(head_);
  tile.first_row = begin + token_;
  tile.tokens = static_cast<int>(std::min<int64_t>(tokens - token_, max_tokens_));
  tile.first_visible = args_.context_len[seq_] - tokens + 1 + token_;
  tile.keys = {0, tile.last_visible()};
  return tile;
}

// A tile costs rows × keys: scores and values take time by both; reading the keys once takes time
// even for a single token, about what computing 16 rows of them does.
int64_t AttentionTiles::Rows(const AttentionTile& tile) const {
  return std::max<int64_t>(16, tile.tokens * GroupOf(args_));
}

bool AttentionTiles::Next(AttentionTile* tile) {
  while (seq_ < args_.num_seqs && heads_.size() > 0) {
    *tile = Current();
    if (tile->tokens <= 0) {  // the next head of this sequence, or the next sequence
      token_ = 0;
      if (++head_ == heads_.end) {
        head_ = heads_.begin;
        ++seq_;
      }
      continue;
    }
    token_ += max_tokens_;
    if (owned_) return true;
    switch (TakePart(tile)) {
      case Part::kNone: break;
      case Part::kSome: return true;
      case Part::kLater: return false;
    }
  }
  return false;
}

// Sets the share's keys of a whole tile. A piece (a segment, or a tile that cannot be cut) belongs to
// the worker in whose share of the cost its middle lies. Costs are integers: all workers agree.
AttentionTiles::Part AttentionTiles::TakePart(AttentionTile* tile) {
  const int64_t rows = Rows(*tile), keys = tile->keys.end;
  const bool may_cut = args_.partials != nullptr && tile->tokens == 1;
  const int64_t piece = may_cut ? kSegmentKeys : keys;
  const int64_t before = cost_;
  cost_ += rows * keys;
  const auto twice_middle = [&](int64_t first) {
    return 2 * before + rows * (first + std::min(first + piece, keys));
  };
  // Most tiles are others' altogether: found without a division.
  const int64_t last = may_cut ? (keys - 1) / kSegmentKeys * kSegmentKeys : 0;
  if (twice_middle(last) * share_.whole() < share_.begin() * 2 * total_) return Part::kNone;
  if (twice_middle(0) * share_.whole() >= share_.end() * 2 * total_) return Part::kLater;
  const auto owner = [&](int64_t first) {
    return OwnerOf(share_, twice_middle(first) * share_.whole() / (2 * total_));
  };
  const int first_owner = owner(0);
  if (first_owner == owner(last)) return Part::kSome;
  tile->slot = first_owner;
  int64_t key = 0;
  while (key < keys && owner(key) < share_.index) key += piece;
  tile->keys.begin = key;
  while (key < keys && owner(key) == share_.index) key += piece;
  tile->keys.end = std::min(key, keys);
  return tile->keys.size() > 0 ? Part::kSome : Part::kNone;
}

int64_t AttentionPartialsBytes(const AttentionArgs& args, Share any) {
  return AttentionOwnsGroups(args.layout.num_kv_heads, any) ? 0 : any.count * SlotBytes(args);
}

TileRowSums::TileRowSums(float* place, int64_t rows, int64_t head_dim) {
  total.acc = place;
  segment.acc = total.acc + rows * head_dim;
  total.max = segment.acc + rows * head_dim;
  total.sum = total.max + rows;
  segment.max = total.sum + rows;
  segment.sum = segment.max + rows;
  end = segment.sum + rows;
}

CutTile::CutTile(const AttentionArgs& args, const AttentionTile& tile)
    : args_(args),
      tile_(tile),
      slot_(static_cast<char*>(args.partials) + tile.slot * SlotBytes(args)) {}

RowSums CutTile::Segment(int64_t key) const {
  const int64_t group = GroupOf(args_);
  RowSums sums;
  sums.acc = reinterpret_cast<float*>(slot_ + kLine + key / kSegmentKeys * SegmentBytes(args_));
  sums.max = sums.acc + group * args_.layout.head_dim;
  sums.sum = sums.max + group;
  return sums;
}

// Acquire and release: whoever completes the count has seen every write that was counted. The next
// operator's barrier lies between its reset and the slot's next use.
bool CutTile::Finish() const {
  auto* const finished = reinterpret_cast<int64_t*>(slot_);
  const int64_t mine = SegmentsOf(tile_.keys.size());
  const int64_t all = SegmentsOf(tile_.last_visible());
  if (__atomic_add_fetch(finished, mine, __ATOMIC_ACQ_REL) < all) return false;
  __atomic_store_n(finished, 0, __ATOMIC_RELAXED);
  return true;
}

}  // namespace tiercel::kernels
