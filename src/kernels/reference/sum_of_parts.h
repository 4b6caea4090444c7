// The sum of the ranks' parts (ops.h, RankParts) in one row and column.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::reference {

// `own` is in the place of the rank's own part, where it has one.
inline float SumOfParts(const RankParts& p, int64_t row, int64_t column, float own) {
  const int64_t at = p.offset + row * p.ld + column;
  float sums[kSumsAtOnce];
  int sizes[kSumsAtOnce];
  int top = 0;
  for (int r = 0; r < p.count; ++r) {
    float sum = r == p.own ? own : p.parts[r][at];
    int size = p.ranks != nullptr ? p.ranks[r] : 1;
    for (; top > 0 && sizes[top - 1] == size; size *= 2) sum = sums[--top] + sum;
    sums[top] = sum;
    sizes[top++] = size;
  }
  float sum = sums[--top];
  while (top > 0) sum = sums[--top] + sum;
  return sum;
}

// kAddParts of a matmul: the columns [column, column + width) of output row `row`, of which `own` are the rank's parts.
template <typename Args>
void StoreSumOfParts(const Args& args, int64_t row, int64_t column, int64_t width, const float* own) {
  for (int64_t c = 0; c < width; ++c) {
    const int64_t at = row * args.ldo + column + c;
    args.out[at] = ToBF16(ToFloat(args.residual[at]) + SumOfParts(args.parts, row, column + c, own[c]));
  }
}

}  // namespace tiercel::kernels::reference
