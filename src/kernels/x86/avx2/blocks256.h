// What simd/block_matmul_impl.h is written in, but for the dot product.
#pragma once

#include "kernels/simd/block_matmul_impl.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"
#include "kernels/x86/six_bits.h"

namespace tiercel::kernels::avx2 {

// A row has a register for the products of a group, one for a block and one for all: 12 of the 16 with 4 rows.
struct Blocks256 {
  using I = __m256i;
  using F = __m256;
  using Simd = avx2::Simd;
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 4;
  static constexpr bool kCentersBytes = false;
  static I Load(const void* p) { return _mm256_loadu_si256(static_cast<const I*>(p)); }
  static I And(I a, I b) { return _mm256_and_si256(a, b); }
  static I Set8(int x) { return _mm256_set1_epi8(static_cast<char>(x)); }
  template <int n>
  static I ShiftLeft(I v) { return _mm256_slli_epi32(v, n); }
  template <int n>
  [[gnu::always_inline]] static I Shift(I v) {
    if constexpr (n > 0) return _mm256_slli_epi16(v, n);
    if constexpr (n < 0) return _mm256_srli_epi16(v, -n);
    return v;
  }
  static I AddBits(I a, I b, I mask) { return _mm256_or_si256(a, _mm256_and_si256(b, mask)); }
  static I Quad(const int8_t* x) {
    int32_t quad;
    __builtin_memcpy(&quad, x, sizeof(quad));
    return _mm256_set1_epi32(quad);
  }
  static I Zero() { return _mm256_setzero_si256(); }
  static I Broadcast(const int32_t* p) { return _mm256_set1_epi32(*p); }
  static F ToFloat(I v) { return _mm256_cvtepi32_ps(v); }
  static F SetF(float x) { return _mm256_set1_ps(x); }
  static void Store(float* p, F v) { Simd::Store(p, v); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Halfs(const uint8_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static F Bytes(const uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(Load8(p))); }
  static F SignedBytes(const uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(Load8(p))); }
  template <int kPart, bool kOdd>
  [[gnu::always_inline]] static F SixBits(const uint8_t* low, const uint8_t* high) {
    const __m128i six = x86::SixBitsOf<kPart, kOdd>(Load8(low), Load8(high));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(six));
  }

 private:
  static __m128i Load8(const uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
};

}  // namespace tiercel::kernels::avx2
