// FP8 by FP32 FMA for fp8_matmul_impl.h, once for all vector widths (S is an ISA's Simd). A code's bits are those of a
// binary16 number with its exponent's bias of 15 for 7, subnormals included: 2⁻⁸ of it, which a block's scale makes up
// for. An ISA adds Decode.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace tiercel::kernels::simd {

template <typename S>
struct Fp8Fma : S {
  using Simd = S;
  using V = typename S::V;
  using W = V;
  using Input = float;
  static constexpr int kTake = 1;
  static constexpr bool kTileRegisters = false;
  static constexpr float kFactor = 256;
  static constexpr int kPanelRows = 48;
  [[gnu::always_inline]] static V Broadcast(const float* x) { return S::Set(*x); }
  [[gnu::always_inline]] static V Dot(V sum, V x, W w) { return S::Fma(x, w, sum); }
  // to = the first `count` of 128 inputs, then zeros.
  [[gnu::always_inline]] static void Hold(const BF16* x, int64_t count, float* to) {
    const int64_t end = count < kBlockInputs ? count : kBlockInputs, whole = end / S::kLanes * S::kLanes;
    for (int64_t i = 0; i < whole; i += S::kLanes) S::Store(to + i, S::Widen(x + i));
    for (int64_t i = whole; i < kBlockInputs; ++i) {
      to[i] = i < end ? __builtin_bit_cast(float, static_cast<uint32_t>(x[i].bits) << 16) : 0.0f;
    }
  }
};

}  // namespace tiercel::kernels::simd
