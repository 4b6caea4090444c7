// Small NEON building blocks that several kernels use. Everything is static: each source gets its own copy.
#pragma once

#include <arm_neon.h>

#include <type_traits>

#include "base/bf16.h"
#include "base/e4m3.h"

namespace tiercel::kernels::neon {

// Eight lanes of FP32 or INT32 in two registers: as many as AVX2 has, so that what is written for sixteen columns as two
// vectors is the same here. Of 32 registers a tile of 6 × 2 such vectors takes 24.
template <typename Register>
struct Two {
  Register low, high;
};

// f of both halves.
template <typename F, typename... V>
[[gnu::always_inline]] static inline auto Both(const F& f, const V&... v) {
  return Two<decltype(f(v.low...))>{f(v.low...), f(v.high...)};
}

// The BF16 nearest to each lane in the upper half of its bits (below them is garbage). Rounds like base/bf16.h's ToBF16:
// ties to even, a NaN stays one. (BFCVT is not used: it makes all NaNs one, and not every CPU has it.)
[[gnu::always_inline]] static inline uint32x4_t BF16Bits(float32x4_t v) {
  const uint32x4_t u = vreinterpretq_u32_f32(v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t quiet = vorrq_u32(u, vdupq_n_u32(0x400000));
  return vbslq_u32(vceqq_f32(v, v), rounded, quiet);
}

// exp(x) to about 1 ulp: the same steps as avx2's Exp.
[[gnu::always_inline]] static inline float32x4_t Exp(float32x4_t x) {
  // Below −104 it is 0; a NaN is not below.
  const uint32x4_t none = vcltq_f32(x, vdupq_n_f32(-104.0f));
  x = vminq_f32(vdupq_n_f32(89.0f), vmaxq_f32(vdupq_n_f32(-104.0f), x));  // a NaN stays one
  const float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(0x1.715476p+0f)));
  float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0x1.62e400p-1f));  // ln 2's high bits: exact
  r = vfmsq_f32(r, n, vdupq_n_f32(0x1.7f7d1cp-20f));
  float32x4_t p = vdupq_n_f32(1.0f / 5040);
  p = vfmaq_f32(vdupq_n_f32(1.0f / 720), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f / 120), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f / 24), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f / 6), p, r);
  p = vfmaq_f32(vdupq_n_f32(0.5f), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
  // 2ⁿ in two halves, so that results near the ends of FP32's range overflow to infinity or underflow step by step.
  const int32x4_t exponent = vcvtnq_s32_f32(n), half = vshrq_n_s32(exponent, 1);
  const auto power_of_two = [](int32x4_t e) __attribute__((always_inline)) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(e, vdupq_n_s32(127)), 23));
  };
  p = vmulq_f32(vmulq_f32(p, power_of_two(half)), power_of_two(vsubq_s32(exponent, half)));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(p), none));
}

// The operations that simd/*_impl.h are written in.
struct Simd {
  using V = Two<float32x4_t>;
  static constexpr int kLanes = 8;
  static constexpr int kRowBlock = 6;  // of attention_impl.h: 6 × 2 sums, 24 of 32 registers
  static constexpr bool kPairDot = false;
  static V Zero() { return Set(0); }
  static V Set(float x) {
    const float32x4_t all = vdupq_n_f32(x);
    return {all, all};
  }
  static V Load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
  static void Store(float* p, V v) {
    vst1q_f32(p, v.low);
    vst1q_f32(p + 4, v.high);
  }
  static V Widen(const BF16* p) {
    const uint16x8_t bits = vld1q_u16(reinterpret_cast<const uint16_t*>(p));
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16)),
            vreinterpretq_f32_u32(vshll_high_n_u16(bits, 16))};
  }
  static void Narrow(BF16* p, V v) {
    vst1q_u16(reinterpret_cast<uint16_t*>(p),
              vshrn_high_n_u32(vshrn_n_u32(BF16Bits(v.low), 16), BF16Bits(v.high), 16));
  }
  static V Round(V v) {
    return Both([](float32x4_t x) __attribute__((always_inline)) {
      return vreinterpretq_f32_u32(vandq_u32(BF16Bits(x), vdupq_n_u32(0xffff0000u)));
    }, v);
  }
  static V Add(V a, V b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
  static V Sub(V a, V b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
  static V Mul(V a, V b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
  static V Div(V a, V b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
  // b where one is a NaN, which FMAX and FMAXNM do not give.
  static V Max(V a, V b) {
    return Both([](float32x4_t x, float32x4_t y) __attribute__((always_inline)) {
      return vbslq_f32(vcgtq_f32(x, y), x, y);
    }, a, b);
  }
  static V Min(V a, V b) {
    return Both([](float32x4_t x, float32x4_t y) __attribute__((always_inline)) {
      return vbslq_f32(vcltq_f32(x, y), x, y);
    }, a, b);
  }
  static V NaNToZero(V v) {
    return Both([](float32x4_t x) __attribute__((always_inline)) {
      return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vceqq_f32(x, x)));
    }, v);
  }
  static V Fma(V a, V b, V c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
  static void AddProduct(V& sum, V a, V b) { sum = Fma(a, b, sum); }
  static V Exp(V x) { return {neon::Exp(x.low), neon::Exp(x.high)}; }
  static float Sum(V v) { return vaddvq_f32(vaddq_f32(v.low, v.high)); }
  static float ReduceMax(V v) { return vmaxnmvq_f32(vmaxnmq_f32(v.low, v.high)); }
  // max(a, |v|) by their bits, so that infinities and NaNs stay; a is ≥ 0.
  static V MaxMagnitude(V a, V v) {
    return Both([](float32x4_t x, float32x4_t y) __attribute__((always_inline)) {
      const uint32x4_t magnitude = vandq_u32(vreinterpretq_u32_f32(y), vdupq_n_u32(0x7fffffff));
      return vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(x), magnitude));
    }, a, v);
  }
  static float ReduceMaxMagnitude(V v) {
    return __builtin_bit_cast(
        float, vmaxvq_u32(vmaxq_u32(vreinterpretq_u32_f32(v.low), vreinterpretq_u32_f32(v.high))));
  }
  // Rounds v in [−128, 127] to integers q and stores the kLanes bytes q + 128.
  static void StoreBytes(uint8_t* p, V v) {
    const auto word = [](float32x4_t x) __attribute__((always_inline)) {
      return vqmovun_s32(vaddq_s32(vcvtnq_s32_f32(x), vdupq_n_s32(128)));
    };
    vst1_u8(p, vqmovn_u16(vcombine_u16(word(v.low), word(v.high))));
  }
  // q = sixteen bytes − 128; returns the bytes' sum.
  static int32_t TakeBytes(const uint8_t* bytes, int8_t* q) {
    const uint8x16_t v = vld1q_u8(bytes);
    vst1q_u8(reinterpret_cast<uint8_t*>(q), veorq_u8(v, vdupq_n_u8(0x80)));
    return vaddlvq_u8(v);
  }
  // Stores what ToE4M3 (base/e4m3.h) makes of v, which holds no NaN.
  static void StoreE4M3(E4M3* p, V v) {
    const auto code = [](float32x4_t x) __attribute__((always_inline)) {
      const uint32x4_t sign = vandq_u32(vshrq_n_u32(vreinterpretq_u32_f32(x), 24), vdupq_n_u32(0x80));
      const float32x4_t magnitude = vminq_f32(vabsq_f32(x), vdupq_n_f32(448.0f));
      const uint32x4_t u = vreinterpretq_u32_f32(magnitude);
      const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 20), vdupq_n_u32(1));
      const uint32x4_t rounded = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7ffff)));
      const uint32x4_t normal = vsubq_u32(vshrq_n_u32(rounded, 20), vdupq_n_u32(120 << 3));
      const float32x4_t unit = vdupq_n_f32(0x1p14f);  // whose last bit is the smallest number's
      const uint32x4_t small = vsubq_u32(vreinterpretq_u32_f32(vaddq_f32(magnitude, unit)), vreinterpretq_u32_f32(unit));
      const uint32x4_t is_small = vcltq_f32(magnitude, vdupq_n_f32(0x1p-6f));
      return vmovn_u32(vorrq_u32(vbslq_u32(is_small, small, normal), sign));
    };
    vst1_u8(reinterpret_cast<uint8_t*>(p), vmovn_u16(vcombine_u16(code(v.low), code(v.high))));
  }
  // v · 2ⁿ for an n in the low bits of `n`; v and the product are ordinary numbers or NaNs.
  static V ShiftExponent(V v, V n) {
    return Both([](float32x4_t x, float32x4_t e) __attribute__((always_inline)) {
      return vreinterpretq_f32_s32(
          vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32(vreinterpretq_s32_f32(e), 23)));
    }, v, n);
  }
  // a + b, modulo 2³², as FP32.
  static V SumOfInts(const int32_t* a, const int32_t* b) {
    return {vcvtq_f32_s32(vaddq_s32(vld1q_s32(a), vld1q_s32(b))),
            vcvtq_f32_s32(vaddq_s32(vld1q_s32(a + 4), vld1q_s32(b + 4)))};
  }
  // kLanes times four bytes that lie together, and the numbers `part` of each: 0 and 1 in BF16, 0 … 3
  // in bytes; E4M3 ones times 2⁻⁸.
  using Raw = Two<uint32x4_t>;
  static Raw LoadRaw(const void* p) {
    const auto* bytes = static_cast<const uint8_t*>(p);
    return {vreinterpretq_u32_u8(vld1q_u8(bytes)), vreinterpretq_u32_u8(vld1q_u8(bytes + 16))};
  }
  static void StoreRaw(void* p, Raw v) {
    vst1q_u32(static_cast<uint32_t*>(p), v.low);
    vst1q_u32(static_cast<uint32_t*>(p) + 4, v.high);
  }
  template <typename Element, int part>
  static V Part(Raw raw) {
    if constexpr (std::is_same_v<Element, E4M3>) {
      return part % 2 == 0 ? WidenLower(Halfs<part / 2>(raw)) : WidenUpper(Halfs<part / 2>(raw));
    }
    return Both([](uint32x4_t x) __attribute__((always_inline)) {
      if constexpr (sizeof(Element) == sizeof(BF16)) {
        return vreinterpretq_f32_u32(part == 0 ? vshlq_n_u32(x, 16) : vandq_u32(x, vdupq_n_u32(0xffff0000u)));
      } else {
        return vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(vreinterpretq_s32_u32(x), 24 - 8 * part), 24));
      }
    }, raw);
  }
  // Of E4M3 numbers the parts 2 · half (low) and 2 · half + 1 (high) as binary16: times 2⁻⁸ (fp8_matmul_impl.h).
  using Numbers = Two<uint16x8_t>;
  template <int half>
  static Numbers Halfs(Raw raw) {
    const uint16x8_t both = half == 0 ? vmovn_high_u32(vmovn_u32(raw.low), raw.high)
                                      : vshrn_high_n_u32(vshrn_n_u32(raw.low, 16), raw.high, 16);
    // The sign is copied downwards as the others move, and its copy cleared.
    const auto half_of = [](uint16x8_t upper) __attribute__((always_inline)) {
      const int16x8_t moved = vshrq_n_s16(vreinterpretq_s16_u16(upper), 1);
      return vandq_u16(vreinterpretq_u16_s16(moved), vdupq_n_u16(0xbfff));
    };
    return {half_of(vshlq_n_u16(both, 8)), half_of(vandq_u16(both, vdupq_n_u16(0xff00)))};
  }
  static V WidenLower(Numbers numbers) { return WidenHalf(numbers.low); }
  static V WidenUpper(Numbers numbers) { return WidenHalf(numbers.high); }
  static V WidenHalf(uint16x8_t bits) {
    const float16x8_t halfs = vreinterpretq_f16_u16(bits);
    return {vcvt_f32_f16(vget_low_f16(halfs)), vcvt_high_f32_f16(halfs)};
  }
  // Replaces the first (half = 0) or second of each of kLanes pairs by one of kLanes values.
  static void StoreHalves(BF16* pairs, const BF16* v, int half) {
    auto* p = reinterpret_cast<uint16_t*>(pairs);
    uint16x8x2_t parts = vld2q_u16(p);
    parts.val[half] = vld1q_u16(reinterpret_cast<const uint16_t*>(v));
    vst2q_u16(p, parts);
  }
  // Lanes i with i < n keep v, the others get `other`.
  static V KeepFirst(V v, int64_t n, V other) {
    static constexpr int32_t kLane[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7};
    const int32x4_t bound = vdupq_n_s32(static_cast<int>(n < 0 ? 0 : (n > kLanes ? kLanes : n)));
    return {vbslq_f32(vcgtq_s32(bound, vld1q_s32(kLane)), v.low, other.low),
            vbslq_f32(vcgtq_s32(bound, vld1q_s32(kLane + 4)), v.high, other.high)};
  }
};

}  // namespace tiercel::kernels::neon
