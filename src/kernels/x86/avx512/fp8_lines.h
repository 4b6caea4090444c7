// Lines of FP8 codes (tensor/block_format.h) as BF16 pairs, for sources that are compiled with AVX512-VBMI.
#pragma once

#include "kernels/simd/fp8_pair_impl.h"
#include "kernels/x86/avx512/bf16_bytes.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {
namespace {

// Indices into 64 lower bytes and, from 64 on, as many upper ones, of four lines of 16 columns: the pairs of the first two
// lines or of the second two.
struct LineOrder {
  alignas(64) uint8_t first[64], second[64];
};
constexpr LineOrder MakeLineOrder() {
  LineOrder order = {};
  for (int i = 0; i < 64; ++i) {
    const int code = i / 4 + i % 4 / 2 * 16;
    order.first[i] = static_cast<uint8_t>(code + i % 2 * 64);
    order.second[i] = static_cast<uint8_t>(code + 32 + i % 2 * 64);
  }
  return order;
}
constexpr LineOrder kLineOrder = MakeLineOrder();

struct Fp8Lines : simd::Fp8Pair<Simd> {
  using W = __m512i;
  static constexpr float kFactor = 1;
  static constexpr int kParts = 2;
  [[gnu::always_inline]] static void Decode(const uint8_t* p, W (&w)[kParts][1]) {
    const Bf16Bytes bytes = BytesOf<E4M3>(LoadRaw(p));
    w[0][0] = _mm512_permutex2var_epi8(bytes.lower, LoadRaw(kLineOrder.first), bytes.upper);
    w[1][0] = _mm512_permutex2var_epi8(bytes.lower, LoadRaw(kLineOrder.second), bytes.upper);
  }
};

}  // namespace
}  // namespace tiercel::kernels::avx512
