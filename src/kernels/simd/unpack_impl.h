// FP32 copies of operands that the FMA kernels use for many products each, once for all vector widths (S
// is an ISA's Simd).
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::simd {

// to = [rows][stride]: x[rows, k]. k is a multiple of S::kLanes.
template <typename S>
[[gnu::always_inline]] inline void WidenRows(const MatmulArgs& args, Range rows, Range k, float* to,
                                             int64_t stride) {
  for (int64_t row = rows.begin; row < rows.end; ++row, to += stride) {
    const BF16* x = args.x + row * args.ldx + k.begin;
    for (int64_t i = 0; i < k.size(); i += S::kLanes) S::Store(to + i, S::Widen(x + i));
  }
}

// Of S::kLanes times four bytes at `from` that lie together, the numbers of each part, from `part` on: a
// vector each, `stride` floats apart.
template <typename S, typename Element, int part = 0>
[[gnu::always_inline]] inline void UnpackParts(const void* from, float* to, int64_t stride) {
  S::Store(to, S::template Part<Element, part>(S::LoadRaw(from)));
  if constexpr (part + 1 < 4 / sizeof(Element)) {
    UnpackParts<S, Element, part + 1>(from, to + stride, stride);
  }
}

}  // namespace tiercel::kernels::simd
