// Small AVX-512 building blocks that several kernels use. Everything is static: each source gets
// its own copy, compiled with its own flags.
#pragma once

#include <immintrin.h>

#include <type_traits>

#include "base/bf16.h"
#include "base/e4m3.h"
#include "kernels/x86/take_bytes.h"

namespace tiercel::kernels::avx512 {

// 16 BF16 values widened.
[[gnu::always_inline]] static inline __m512 LoadBF16(const BF16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// The BF16 nearest to each lane in the upper half of its bits (below them is garbage). Rounds like
// base/bf16.h's ToBF16: ties to even, a NaN stays one. (vcvtneps2bf16 is not used: it flushes
// subnormals, and not every AVX-512 CPU has it.)
[[gnu::always_inline]] static inline __m512i BF16Bits(__m512 v) {
  const __m512i u = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
}
[[gnu::always_inline]] static inline void StoreBF16(BF16* p, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(BF16Bits(v), 16)));
}
[[gnu::always_inline]] static inline __m512 RoundToBF16(__m512 v) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(BF16Bits(v), _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// exp(x) to about 1 ulp over the whole range: x = n·ln 2 + r with |r| ≤ ln 2 / 2, exp(r) by its
// Taylor polynomial of degree 7 (next term r⁸/8! < 5e-9), scaled by 2ⁿ. Overflows to infinity,
// underflows to 0; a NaN stays one.
[[gnu::always_inline]] static inline __m512 Exp(__m512 x) {
  // Below −104 it is 0, by a mask: a product that underflows takes some 150 cycles, and rows of masked
  // logits have little else.
  const __mmask16 some = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-104.0f), _CMP_NLE_UQ);
  x = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(_mm512_set1_ps(-104.0f), x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e400p-1f), x);  // ln 2's high bits: exact
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
  __m512 p = _mm512_set1_ps(1.0f / 5040);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(some, p, n);
}

// The operations that simd/*_impl.h are written in.
struct Simd {
  using V = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kRowBlock = 12;  // of attention_impl.h: 12 × 2 sums of 32 registers
  static constexpr bool kPairDot = false;
  static V Zero() { return _mm512_setzero_ps(); }
  static V Set(float x) { return _mm512_set1_ps(x); }
  static V Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V Widen(const BF16* p) { return LoadBF16(p); }
  static void Narrow(BF16* p, V v) { StoreBF16(p, v); }
  static V Round(V v) { return RoundToBF16(v); }
  static V Add(V a, V b) { return _mm512_add_ps(a, b); }
  static V Sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V Mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V Div(V a, V b) { return _mm512_div_ps(a, b); }
  static V Max(V a, V b) { return _mm512_max_ps(a, b); }  // b where one is a NaN
  static V Min(V a, V b) { return _mm512_min_ps(a, b); }
  static V NaNToZero(V v) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), v); }
  static V Fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  // sum = fma(a, b, sum) in sum's register: GCC may write it to another one, and have none left for a tile's sums.
  static void AddProduct(V& sum, V a, V b) { asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b)); }
  static V Exp(V x) { return avx512::Exp(x); }
  static float Sum(V v) { return _mm512_reduce_add_ps(v); }
  static float ReduceMax(V v) { return _mm512_reduce_max_ps(v); }
  // max(a, |v|) by their bits, so that infinities and NaNs stay; a is ≥ 0.
  static V MaxMagnitude(V a, V v) {
    const __m512i magnitude =
        _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), magnitude));
  }
  static float ReduceMaxMagnitude(V v) {
    return __builtin_bit_cast(float, _mm512_reduce_max_epi32(_mm512_castps_si512(v)));
  }
  // Rounds v in [−128, 127] to integers q and stores the kLanes bytes q + 128.
  static void StoreBytes(uint8_t* p, V v) {
    const __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(128));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(q));
  }
  // Stores what ToE4M3 (base/e4m3.h) makes of v, which holds no NaN.
  static void StoreE4M3(E4M3* p, V v) {
    const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(_mm512_castps_si512(v), 24), _mm512_set1_epi32(0x80));
    const __m512 magnitude = _mm512_min_ps(_mm512_abs_ps(v), _mm512_set1_ps(448.0f));
    const __m512i u = _mm512_castps_si512(magnitude);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 20), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff)));
    const __m512i normal = _mm512_sub_epi32(_mm512_srli_epi32(rounded, 20), _mm512_set1_epi32(120 << 3));
    const __m512i small = _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(magnitude, _mm512_set1_ps(0x1p14f))),
                                           _mm512_castps_si512(_mm512_set1_ps(0x1p14f)));
    const __mmask16 is_small = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ);
    const __m512i code = _mm512_or_si512(_mm512_mask_mov_epi32(normal, is_small, small), sign);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(code));
  }
  // q = sixteen bytes − 128; returns the bytes' sum. All is aligned.
  static int32_t TakeBytes(const uint8_t* bytes, int8_t* q) { return x86::TakeBytes(bytes, q); }
  // v · 2ⁿ for an n in the low bits of `n`; v and the product are ordinary numbers or NaNs.
  static V ShiftExponent(V v, V n) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v),
                                                _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
  }
  // a + b, modulo 2³², as FP32.
  static V SumOfInts(const int32_t* a, const int32_t* b) {
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_loadu_si512(a), _mm512_loadu_si512(b)));
  }
  // kLanes times four bytes that lie together, and the numbers `part` of each: 0 and 1 in BF16, 0 … 3
  // in bytes; E4M3 ones times 2⁻⁸.
  using Raw = __m512i;
  static Raw LoadRaw(const void* p) { return _mm512_loadu_si512(p); }
  static void StoreRaw(void* p, Raw v) { _mm512_storeu_si512(p, v); }
  template <typename Element, int part>
  static V Part(Raw raw) {
    if constexpr (sizeof(Element) == sizeof(BF16)) {
      return _mm512_castsi512_ps(
          part == 0 ? _mm512_slli_epi32(raw, 16)
                    : _mm512_and_si512(raw, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    } else if constexpr (std::is_same_v<Element, E4M3>) {
      return part % 2 == 0 ? WidenLower(Halfs<part / 2>(raw)) : WidenUpper(Halfs<part / 2>(raw));
    } else {
      return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(raw, 24 - 8 * part), 24));
    }
  }
  // Of E4M3 numbers the parts 2 · half and, behind them, 2 · half + 1 as binary16: times 2⁻⁸ (fp8_matmul_impl.h).
  template <int half>
  static Raw Halfs(Raw raw) {
    // The bytes become the upper ones of words: in each 128 bits four of the one part, four of the other.
    constexpr char kNone = -1, kByte = 2 * half;
    const __m512i bytes = _mm512_shuffle_epi8(
        raw, _mm512_broadcast_i32x4(_mm_setr_epi8(kNone, kByte, kNone, kByte + 4, kNone, kByte + 8, kNone, kByte + 12,
                                                  kNone, kByte + 1, kNone, kByte + 5, kNone, kByte + 9, kNone, kByte + 13)));
    // The sign is copied downwards as the others move, and its copy cleared.
    const __m512i halfs =
        _mm512_and_si512(_mm512_srai_epi16(bytes, 1), _mm512_set1_epi16(static_cast<int16_t>(0xbfff)));
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), halfs);
  }
  static V WidenLower(Raw halfs) { return _mm512_cvtph_ps(_mm512_castsi512_si256(halfs)); }
  static V WidenUpper(Raw halfs) { return _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halfs, 1)); }
  // Replaces the first (half = 0) or second of each of kLanes pairs by one of kLanes values.
  static void StoreHalves(BF16* pairs, const BF16* v, int half) {
    const __m512i wide = _mm512_cvtepu16_epi32(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(v)));
    _mm512_mask_storeu_epi16(pairs, half ? 0xaaaaaaaa : 0x55555555,
                             half ? _mm512_slli_epi32(wide, 16) : wide);
  }
  // Lanes i with i < n keep v, the others get `other`.
  static V KeepFirst(V v, int64_t n, V other) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const int bound = static_cast<int>(n < 0 ? 0 : (n > kLanes ? kLanes : n));
    return _mm512_mask_blend_ps(_mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(bound)), other, v);
  }
};

}  // namespace tiercel::kernels::avx512
