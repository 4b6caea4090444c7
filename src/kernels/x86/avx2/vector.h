// Small AVX2 building blocks that several kernels use. Everything is static: each source gets its
// own copy, compiled with its own flags.
#pragma once

#include <immintrin.h>

#include <type_traits>

#include "base/bf16.h"
#include "base/e4m3.h"
#include "kernels/x86/take_bytes.h"

namespace tiercel::kernels::avx2 {

// 8 BF16 values widened.
[[gnu::always_inline]] static inline __m256 LoadBF16(const BF16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// The BF16 nearest to each lane in the upper half of its bits (below them is garbage). Rounds like
// base/bf16.h's ToBF16: ties to even, a NaN stays one.
[[gnu::always_inline]] static inline __m256i BF16Bits(__m256 v) {
  const __m256i u = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  return _mm256_castps_si256(
      _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), nan));
}
[[gnu::always_inline]] static inline void StoreBF16(BF16* p, __m256 v) {
  const __m256i bits = _mm256_srli_epi32(BF16Bits(v), 16);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1)));
}

[[gnu::always_inline]] static inline __m256 RoundToBF16(__m256 v) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(BF16Bits(v), _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

// exp(x) to about 1 ulp: the same steps as avx512's Exp. 2ⁿ is multiplied on in two halves, so
// that results near the ends of FP32's range overflow to infinity or underflow step by step.
[[gnu::always_inline]] static inline __m256 Exp(__m256 x) {
  // Below −104 it is 0 before the last products: one that underflows takes some 150 cycles.
  const __m256 some = _mm256_cmp_ps(x, _mm256_set1_ps(-104.0f), _CMP_NLE_UQ);
  x = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(_mm256_set1_ps(-104.0f), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e400p-1f), x);  // ln 2's high bits: exact
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
  __m256 p = _mm256_set1_ps(1.0f / 5040);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(exponent, 1);
  const auto power_of_two = [](__m256i e) __attribute__((always_inline)) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  p = _mm256_mul_ps(_mm256_and_ps(p, some), power_of_two(half));
  p = _mm256_mul_ps(p, power_of_two(_mm256_sub_epi32(exponent, half)));
  // The exponent of a NaN converts to garbage: put the NaN back.
  return _mm256_blendv_ps(p, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

// The operations that simd/*_impl.h are written in.
struct Simd {
  using V = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kRowBlock = 6;  // of attention_impl.h: 6 × 2 sums of 16 registers
  static constexpr bool kPairDot = false;
  static V Zero() { return _mm256_setzero_ps(); }
  static V Set(float x) { return _mm256_set1_ps(x); }
  static V Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V Widen(const BF16* p) { return LoadBF16(p); }
  static void Narrow(BF16* p, V v) { StoreBF16(p, v); }
  static V Round(V v) { return RoundToBF16(v); }
  static V Add(V a, V b) { return _mm256_add_ps(a, b); }
  static V Sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V Mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V Div(V a, V b) { return _mm256_div_ps(a, b); }
  static V Max(V a, V b) { return _mm256_max_ps(a, b); }  // b where one is a NaN
  static V Min(V a, V b) { return _mm256_min_ps(a, b); }
  static V NaNToZero(V v) { return _mm256_and_ps(v, _mm256_cmp_ps(v, v, _CMP_ORD_Q)); }
  static V Fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  // sum = fma(a, b, sum) in sum's register: GCC may write it to another one, and have none left for a tile's sums.
  static void AddProduct(V& sum, V a, V b) { asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b)); }
  static V Exp(V x) { return avx2::Exp(x); }
  static float Sum(V v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
  }
  static float ReduceMax(V v) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
  }
  // max(a, |v|) by their bits, so that infinities and NaNs stay; a is ≥ 0.
  static V MaxMagnitude(V a, V v) {
    const __m256i magnitude =
        _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), magnitude));
  }
  static float ReduceMaxMagnitude(V v) {
    const __m256i u = _mm256_castps_si256(v);
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
    half = _mm_max_epi32(half, _mm_unpackhi_epi64(half, half));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 1));
    return _mm_cvtss_f32(_mm_castsi128_ps(half));
  }
  // Rounds v in [−128, 127] to integers q and stores the kLanes bytes q + 128.
  static void StoreBytes(uint8_t* p, V v) {
    const __m256i q = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(128));
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  // Stores what ToE4M3 (base/e4m3.h) makes of v, which holds no NaN.
  static void StoreE4M3(E4M3* p, V v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
    const __m256 magnitude =
        _mm256_min_ps(_mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff))), _mm256_set1_ps(448.0f));
    const __m256i u = _mm256_castps_si256(magnitude);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 20), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff)));
    const __m256i normal = _mm256_sub_epi32(_mm256_srli_epi32(rounded, 20), _mm256_set1_epi32(120 << 3));
    const __m256i small = _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(magnitude, _mm256_set1_ps(0x1p14f))),
                                           _mm256_castps_si256(_mm256_set1_ps(0x1p14f)));
    const __m256 is_small = _mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ);
    const __m256i code = _mm256_or_si256(_mm256_blendv_epi8(normal, small, _mm256_castps_si256(is_small)), sign);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  // q = sixteen bytes − 128; returns the bytes' sum. All is aligned.
  static int32_t TakeBytes(const uint8_t* bytes, int8_t* q) { return x86::TakeBytes(bytes, q); }
  // v · 2ⁿ for an n in the low bits of `n`; v and the product are ordinary numbers or NaNs.
  static V ShiftExponent(V v, V n) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v),
                                                _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
  }
  // a + b, modulo 2³², as FP32.
  static V SumOfInts(const int32_t* a, const int32_t* b) {
    return _mm256_cvtepi32_ps(
        _mm256_add_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)),
                         _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b))));
  }
  // kLanes times four bytes that lie together, and the numbers `part` of each: 0 and 1 in BF16, 0 … 3
  // in bytes; E4M3 ones times 2⁻⁸.
  using Raw = __m256i;
  static Raw LoadRaw(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  template <typename Element, int part>
  static V Part(Raw raw) {
    if constexpr (sizeof(Element) == sizeof(BF16)) {
      return _mm256_castsi256_ps(
          part == 0 ? _mm256_slli_epi32(raw, 16)
                    : UpperHalves(raw));
    } else if constexpr (std::is_same_v<Element, E4M3>) {
      return part % 2 == 0 ? WidenLower(Halfs<part / 2>(raw)) : WidenUpper(Halfs<part / 2>(raw));
    } else {
      return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(raw, 24 - 8 * part), 24));
    }
  }
  // The mask stays in memory: in a register it would take a sum's place.
  static Raw UpperHalves(Raw words) {
    alignas(32) static constexpr uint32_t kMask[] = {0xffff0000, 0xffff0000, 0xffff0000, 0xffff0000,
                                                     0xffff0000, 0xffff0000, 0xffff0000, 0xffff0000};
    Raw upper;
    asm("vpand %1, %2, %0" : "=x"(upper) : "m"(kMask), "x"(words));
    return upper;
  }
  // Of E4M3 numbers the parts 2 · half and, behind them, 2 · half + 1 as binary16: times 2⁻⁸ (fp8_matmul_impl.h).
  template <int half>
  static Raw Halfs(Raw raw) {
    // The bytes become the upper ones of words: in each 128 bits four of the one part, four of the other.
    constexpr char kNone = -1, kByte = 2 * half;
    const __m256i bytes = _mm256_shuffle_epi8(
        raw, _mm256_broadcastsi128_si256(
                 _mm_setr_epi8(kNone, kByte, kNone, kByte + 4, kNone, kByte + 8, kNone, kByte + 12, kNone, kByte + 1, kNone,
                               kByte + 5, kNone, kByte + 9, kNone, kByte + 13)));
    // The sign is copied downwards as the others move, and its copy cleared.
    const __m256i halfs =
        _mm256_and_si256(_mm256_srai_epi16(bytes, 1), _mm256_set1_epi16(static_cast<int16_t>(0xbfff)));
    return _mm256_permute4x64_epi64(halfs, 0b11011000);
  }
  static V WidenLower(Raw halfs) { return _mm256_cvtph_ps(_mm256_castsi256_si128(halfs)); }
  static V WidenUpper(Raw halfs) { return _mm256_cvtph_ps(_mm256_extracti128_si256(halfs, 1)); }
  // Replaces the first (half = 0) or second of each of kLanes pairs by one of kLanes values.
  static void StoreHalves(BF16* pairs, const BF16* v, int half) {
    auto* p = reinterpret_cast<__m256i*>(pairs);
    const __m256i wide = _mm256_cvtepu16_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(v)));
    const __m256i old = _mm256_loadu_si256(p);
    _mm256_storeu_si256(p, half ? _mm256_blend_epi16(old, _mm256_slli_epi32(wide, 16), 0xaa)
                                : _mm256_blend_epi16(old, wide, 0x55));
  }
  // Lanes i with i < n keep v, the others get `other`.
  static V KeepFirst(V v, int64_t n, V other) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const int bound = static_cast<int>(n < 0 ? 0 : (n > kLanes ? kLanes : n));
    const __m256i keep = _mm256_cmpgt_epi32(_mm256_set1_epi32(bound), lane);
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(keep));
  }
};

}  // namespace tiercel::kernels::avx2
