// FP8 by products of BF16 pairs for fp8_matmul_impl.h (S is an ISA's Simd): every E4M3 number is one of BF16. An ISA adds
// the weights' registers, Decode, Broadcast and Dot.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace tiercel::kernels::simd {

template <typename S>
struct Fp8Pair : S {
  using Simd = S;
  using Input = BF16;
  static constexpr int kTake = 2;
  static constexpr bool kTileRegisters = false;
  static constexpr int kPanelRows = 120;
  [[gnu::always_inline]] static void Hold(const BF16* x, int64_t count, BF16* to) {
    if (count >= kBlockInputs) {
      __builtin_memcpy(to, x, kBlockInputs * sizeof(BF16));
      return;
    }
    for (int64_t i = 0; i < kBlockInputs; ++i) to[i] = i < count ? x[i] : BF16{};
  }
};

}  // namespace tiercel::kernels::simd
