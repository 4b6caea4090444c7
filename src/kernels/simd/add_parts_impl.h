// The sum of the ranks' parts (ops.h, AddPartsArgs), once for all vector widths. `S` is an ISA's Simd.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::simd {

// The sum of the parts from `at` on, `own` in the place of the rank's.
template <typename S>
[[gnu::always_inline]] inline typename S::V SumOfParts(const RankParts& p, int64_t at,
                                                       typename S::V own) {
  typename S::V sum = p.own == 0 ? own : S::Load(p.parts[0] + at);
  for (int r = 1; r < p.count; ++r) sum = S::Add(sum, r == p.own ? own : S::Load(p.parts[r] + at));
  return sum;
}

// One row's columns [begin, end).
template <typename S>
[[gnu::always_inline]] inline void AddPartsOfRow(const AddPartsArgs& args, int64_t row, int64_t begin,
                                                 int64_t end) {
  const BF16* residual = args.residual + row * args.ldr;
  BF16* out = args.out + row * args.ldo;
  const RankParts& p = args.parts;
  const int64_t at = p.offset + row * p.ld;
  int64_t c = begin;
  for (; c + S::kLanes <= end; c += S::kLanes) {
    const typename S::V sum = SumOfParts<S>(p, at + c, S::Set(0));
    S::Narrow(out + c, S::Add(S::Widen(residual + c), sum));
  }
  for (; c < end; ++c) {
    float sum = p.parts[0][at + c];
    for (int r = 1; r < p.count; ++r) sum += p.parts[r][at + c];
    out[c] = ToBF16(ToFloat(residual[c]) + sum);
  }
}

template <typename S>
inline void AddParts(const AddPartsArgs& args, Share share) {
  constexpr int64_t kRun = 16;
  const int64_t runs = (args.n + kRun - 1) / kRun;  // of a row
  const Range mine = SplitRange(args.rows * runs, 1, share);
  for (int64_t i = mine.begin; i < mine.end;) {
    const int64_t row = i / runs, first = i % runs;
    const int64_t count = runs - first < mine.end - i ? runs - first : mine.end - i;
    const int64_t end = (first + count) * kRun;
    AddPartsOfRow<S>(args, row, first * kRun, end < args.n ? end : args.n);
    i += count;
  }
}

}  // namespace tiercel::kernels::simd
