// The sum of the ranks' parts (ops.h, AddPartsArgs), once for all vector widths. `S` is an ISA's Simd.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::x86 {

// One row's columns [begin, end).
template <typename S>
[[gnu::always_inline]] inline void AddPartsOfRow(const AddPartsArgs& args, int64_t row, int64_t begin,
                                                 int64_t end) {
  const BF16* residual = args.residual + row * args.ldr;
  BF16* out = args.out + row * args.ldo;
  const int64_t at = row * args.ldp;
  int64_t c = begin;
  for (; c + S::kLanes <= end; c += S::kLanes) {
    typename S::V sum = S::Load(args.parts[0] + at + c);
    for (int p = 1; p < args.num_parts; ++p) sum = S::Add(sum, S::Load(args.parts[p] + at + c));
    S::Narrow(out + c, S::Add(S::Widen(residual + c), sum));
  }
  for (; c < end; ++c) {
    float sum = args.parts[0][at + c];
    for (int p = 1; p < args.num_parts; ++p) sum += args.parts[p][at + c];
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

}  // namespace tiercel::kernels::x86
