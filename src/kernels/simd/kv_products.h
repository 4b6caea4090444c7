// Products of a tile's factors (q, p) with elements of the cache, unpacked in registers. S is an ISA's Simd; load(v): the four
// bytes a lane of the v-th vector, kTogether elements of each column.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/bf16.h"
#include "base/e4m3.h"
#include "kernels/kv_layout.h"
#include "kernels/simd/register_tile.h"

namespace tiercel::kernels::simd {

// Where a row of FP32 numbers holds BF16 ones instead, from its beginning on.
[[gnu::always_inline]] inline BF16* PairsOf(float* row) { return reinterpret_cast<BF16*>(row); }
[[gnu::always_inline]] inline const BF16* PairsOf(const float* row) { return reinterpret_cast<const BF16*>(row); }

// tile += factors[r · stride + i] · the i-th element of load(v), of E4M3 numbers from the pair `half` on: it takes no more to
// unpack two parts than one.
template <int half = 0, typename S, int kRows, int kVectors, typename Load>
[[gnu::always_inline]] inline void AddHalfs(RegisterTile<S, kRows, kVectors>& tile, const float* factors, int64_t stride,
                                            const Load& load) {
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    const auto halfs = S::template Halfs<half>(load(v));
    const typename S::V first = S::WidenLower(halfs), second = S::WidenUpper(halfs);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const float* f = factors + r * stride + 2 * half;
      tile.sum[r][v] = S::Fma(S::Set(f[1]), second, S::Fma(S::Set(f[0]), first, tile.sum[r][v]));
    }
  }
  if constexpr (half == 0) {
    asm volatile("" : : : "memory");
    AddHalfs<1>(tile, factors, stride, load);
  }
}

// The same of any elements, from part `part` on.
template <typename Element, int part = 0, typename S, int kRows, int kVectors, typename Load>
[[gnu::always_inline]] inline void AddParts(RegisterTile<S, kRows, kVectors>& tile, const float* factors, int64_t stride,
                                            const Load& load) {
  if constexpr (std::is_same_v<Element, E4M3>) {
    AddHalfs(tile, factors, stride, load);
  } else {
    tile.AddProducts([&](int r) __attribute__((always_inline)) { return S::Set(factors[r * stride + part]); },
                     [&](int v) __attribute__((always_inline)) { return S::template Part<Element, part>(load(v)); });
    if constexpr (part + 1 < kTogether<Element>) {
      // Loaded again: the sums leave no registers for what was loaded and all that is made of it.
      asm volatile("" : : : "memory");
      AddParts<Element, part + 1>(tile, factors, stride, load);
    }
  }
}

// tile += (factors as pairs)[r · stride] · pairs(v), by the instruction for BF16 pairs.
template <typename S, int kRows, int kVectors, typename Pairs>
[[gnu::always_inline]] inline void MultiplyPairs(RegisterTile<S, kRows, kVectors>& tile, const BF16* factors, int64_t stride,
                                                 const Pairs& pairs) {
  tile.Accumulate([&](int r) __attribute__((always_inline)) { return S::SetPair(factors + r * stride); }, pairs,
                  [](auto sum, auto pair, auto raw) __attribute__((always_inline)) { return S::Dot(sum, raw, pair); });
}

// tile += (factors as pairs)[r · stride] · load(v); of bytes a second pair each.
template <typename Element, typename S, int kRows, int kVectors, typename Load>
[[gnu::always_inline]] inline void AddPairs(RegisterTile<S, kRows, kVectors>& tile, const BF16* factors, int64_t stride,
                                            const Load& load) {
  if constexpr (sizeof(Element) == 1) {
    typename S::Raw first[kVectors], second[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) S::WidenPairs(load(v), &first[v], &second[v]);
    MultiplyPairs(tile, factors, stride, [&](int v) __attribute__((always_inline)) { return first[v]; });
    MultiplyPairs(tile, factors + 2, stride, [&](int v) __attribute__((always_inline)) { return second[v]; });
  } else {
    MultiplyPairs(tile, factors, stride, load);
  }
}

}  // namespace tiercel::kernels::simd
