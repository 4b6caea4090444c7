// AVX-512's Simd with products of BF16 pairs, for sources that are compiled with AVX512-BF16. Their other flags differ:
// each has a type of its own, so that the linker cannot mix them up.
#pragma once

#include <cstring>

#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {
namespace {

struct PairDot : Simd {
  static constexpr bool kPairDot = true;
  static Raw SetPair(const BF16* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  // 32 numbers. Subnormal ones become 0.
  static void NarrowPair(BF16* p, V low, V high) {
    _mm512_storeu_si512(p, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }
  static V Dot(V sum, Raw a, Raw b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

}  // namespace
}  // namespace tiercel::kernels::avx512
