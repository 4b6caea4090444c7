// The sum of the ranks' parts (ops.h, AddPartsArgs), once for all vector widths. `S` is an ISA's Simd.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::simd {

// The sum of the parts as value(r) gives them, in the order that RankParts says.
template <typename V, typename Value, typename Add>
[[gnu::always_inline]] inline V SumInPairs(const RankParts& p, Value&& value, Add&& add) {
  if (p.count == 2) return add(value(0), value(1));
  V sums[kSumsAtOnce];
  int sizes[kSumsAtOnce];
  int top = 0;
  for (int r = 0; r < p.count; ++r) {
    V sum = value(r);
    int size = p.ranks != nullptr ? p.ranks[r] : 1;
    for (; top > 0 && sizes[top - 1] == size; size *= 2) sum = add(sums[--top], sum);
    sums[top] = sum;
    sizes[top++] = size;
  }
  V sum = sums[--top];
  while (top > 0) sum = add(sums[--top], sum);
  return sum;
}

// The sum of the parts from `at` on, `own` in the place of the rank's.
template <typename S>
[[gnu::always_inline]] inline typename S::V SumOfParts(const RankParts& p, int64_t at,
                                                       typename S::V own) {
  return SumInPairs<typename S::V>(
      p, [&](int r) __attribute__((always_inline)) { return r == p.own ? own : S::Load(p.parts[r] + at); }, S::Add);
}

// One row's columns [begin, end).
template <typename S>
[[gnu::always_inline]] inline void AddPartsOfRow(const AddPartsArgs& args, int64_t row, int64_t begin,
                                                 int64_t end) {
  const BF16* residual = args.residual + row * args.ldr;
  BF16* out = args.out + row * args.ldo;
  float* out_f32 = args.out_f32 != nullptr ? args.out_f32 + row * args.ldo : nullptr;
  const RankParts& p = args.parts;
  const int64_t at = p.offset + row * p.ld;
  int64_t c = begin;
  for (; c + S::kLanes <= end; c += S::kLanes) {
    const typename S::V sum = SumOfParts<S>(p, at + c, S::Set(0));
    if (out_f32 != nullptr) {
      S::Store(out_f32 + c, sum);
    } else {
      S::Narrow(out + c, S::Add(S::Widen(residual + c), sum));
    }
  }
  for (; c < end; ++c) {
    const float sum = SumInPairs<float>(p, [&](int r) { return p.parts[r][at + c]; },
                                        [](float a, float b) { return a + b; });
    if (out_f32 != nullptr) {
      out_f32[c] = sum;
    } else {
      out[c] = ToBF16(ToFloat(residual[c]) + sum);
    }
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
