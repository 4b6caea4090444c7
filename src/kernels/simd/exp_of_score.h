// The exponential of a softmax by FMA, once for all vector widths (S is an ISA's Simd).
#pragma once

namespace tiercel::kernels::simd {

inline constexpr float kLog2E = 0x1.715476p+0f;

// 2^x for x ≤ 0, in half of the operations that S::Exp needs for all x: x = n + r, (1 + r·q(r)) · 2ⁿ, where q
// interpolates (2^r − 1) / r at Chebyshev's nodes. To about 1 ulp (the polynomial is off by 5e-9); where p is rounded to
// BF16, kShort, by 7e-6 at most: a five hundredth of that rounding. Below −124 it stays 2⁻¹²⁴. A NaN stays one:
// one that comes of BF16 numbers or of arithmetic has no low bits.
template <typename S, bool kShort>
[[gnu::always_inline]] inline typename S::V Exp2OfScore(typename S::V x) {
  using V = typename S::V;
  x = S::Max(S::Set(-124.0f), x);
  // Added to 1.5 · 2²³, whose last bit is worth 1, a number is rounded to n, which is in the low bits.
  const V shift = S::Set(0x1.8p23f);
  const V shifted = S::Add(x, shift);
  const V r = S::Sub(x, S::Sub(shifted, shift));
  V p;
  if constexpr (kShort) {
    p = S::Set(0x1.3c6e5cp-7f);
    p = S::Fma(p, r, S::Set(0x1.c96d5ep-5f));
    p = S::Fma(p, r, S::Set(0x1.ebfb3ep-3f));
    p = S::Fma(p, r, S::Set(0x1.62e2d2p-1f));
  } else {
    p = S::Set(0x1.44138ap-13f);
    p = S::Fma(p, r, S::Set(0x1.5f0890p-10f));
    p = S::Fma(p, r, S::Set(0x1.3b2a54p-7f));
    p = S::Fma(p, r, S::Set(0x1.c6af6cp-5f));
    p = S::Fma(p, r, S::Set(0x1.ebfbe0p-3f));
    p = S::Fma(p, r, S::Set(0x1.62e430p-1f));
  }
  p = S::Fma(p, r, S::Set(1.0f));
  return S::ShiftExponent(p, shifted);
}

}  // namespace tiercel::kernels::simd
