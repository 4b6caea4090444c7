// The sums of a tile's rows over its segments of keys (kernels/attention_work.h). The first segment's
// are the totals; each further one has sums of its own, which are merged when it ends. The parts of a
// cut tile go to the place that its workers share, and the last of them merges all, in the same order
// by the same operations.
//
// Once for all kernels; S is an ISA's Simd, whose Exp is that of the kernel: p = Exp(score − max).
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/attention_work.h"

namespace tiercel::kernels::simd {

template <typename S>
class TileSums {
  using V = typename S::V;

 public:
  TileSums(const AttentionArgs& args, const AttentionTile& tile, const TileRowSums& sums)
      : args_(args),
        tile_(tile),
        d_(args.layout.head_dim),
        group_(args.num_q_heads / args.layout.num_kv_heads),
        total_(sums.total),
        segment_(sums.segment) {}

  // Calls step(key) for the first key of every `step_keys` of the share's keys. True: then the sums
  // are those of all keys; false: another worker has them and stores the rows.
  template <typename Step>
  [[gnu::always_inline]] bool Run(int64_t step_keys, Step&& step) {
    for (int64_t first = tile_.keys.begin; first < tile_.keys.end; first += kSegmentKeys) {
      const int64_t end = std::min(first + kSegmentKeys, tile_.keys.end);
      now_ = first == 0 && !tile_.IsCut() ? total_ : segment_;
      for (int64_t key = first; key < end; key += step_keys) {
        fresh_ = key == first;
        step(key);
      }
      EndSegment(first);
    }
    return Complete();
  }

  // Of the segment at hand, and in the end of all.
  float* acc(int64_t row) const { return now_.acc + row * d_; }
  float& max(int64_t row) const { return now_.max[row]; }
  // The maximum so far.
  float max_before(int64_t row) const {
    return fresh_ ? -std::numeric_limits<float>::infinity() : max(row);
  }
  float& sum(int64_t row) const { return now_.sum[row]; }
  // True in a segment's first step: its sums are still whatever, to be set and not added to.
  bool fresh() const { return fresh_; }

 private:
  void EndSegment(int64_t key) {
    if (tile_.IsCut()) {
      const RowSums place = CutTile(args_, tile_).Segment(key);
      std::memcpy(place.acc, segment_.acc, group_ * d_ * sizeof(float));
      std::memcpy(place.max, segment_.max, group_ * sizeof(float));
      std::memcpy(place.sum, segment_.sum, group_ * sizeof(float));
    } else if (key > 0) {
      // Rows of the tokens that see the segment's first key.
      const int64_t first = std::max<int64_t>(0, key + 1 - tile_.first_visible) * group_;
      Merge(total_, segment_, first, tile_.tokens * group_);
    }
  }

  // After the last segment.
  bool Complete() {
    if (tile_.IsCut()) {
      const CutTile cut(args_, tile_);
      if (!cut.Finish()) return false;
      total_ = cut.Segment(0);
      for (int64_t key = kSegmentKeys; key < tile_.last_visible(); key += kSegmentKeys) {
        Merge(total_, cut.Segment(key), 0, group_);
      }
    }
    now_ = total_;
    return true;
  }

  // Adds to rows [begin, end) of `to` those of `from`, whose keys follow.
  void Merge(const RowSums& to, const RowSums& from, int64_t begin, int64_t end) const {
    for (int64_t row = begin; row < end; ++row) {
      const V before = S::Set(to.max[row]), more = S::Set(from.max[row]);
      const V max = S::Max(before, more);
      const V keep = S::Exp(S::Sub(before, max)), add = S::Exp(S::Sub(more, max));
      float factors[3][S::kLanes];
      S::Store(factors[0], keep);
      S::Store(factors[1], add);
      S::Store(factors[2], max);
      to.max[row] = factors[2][0];
      to.sum[row] = to.sum[row] * factors[0][0] + from.sum[row] * factors[1][0];
      float* acc = to.acc + row * d_;
      const float* other = from.acc + row * d_;
      for (int64_t i = 0; i < d_; i += S::kLanes) {
        S::Store(acc + i, S::Fma(S::Load(other + i), add, S::Mul(S::Load(acc + i), keep)));
      }
    }
  }

  const AttentionArgs& args_;
  const AttentionTile& tile_;
  const int64_t d_;
  const int64_t group_;
  RowSums total_;
  const RowSums segment_;
  RowSums now_;
  bool fresh_ = true;
};

}  // namespace tiercel::kernels::simd
