// FP32 copies of operands that the FMA kernels use for many products each, once for all vector widths (S
// is an ISA's Simd).
#pragma once

#include <cstdint>

namespace tiercel::kernels::simd {

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
