// The exponential of a softmax by FMA, once for all vector widths (S is an ISA's Simd).
#pragma once

namespace tiercel::kernels::simd {

// exp(x) for x ≤ 0 to about 1 ulp, in half of the operations that S::Exp needs for all x: x = n·ln 2 + r,
// 1 + r + r²·q(r), where q interpolates (exp(r) − 1 − r) / r² at Chebyshev's nodes (together off by
// 1.1e-8 at most), scaled by 2ⁿ. Below −86 it stays exp(−86) = 4.5e-38. A NaN stays one: one that comes
// of BF16 numbers or of arithmetic has no low bits.
template <typename S>
[[gnu::always_inline]] inline typename S::V ExpOfScore(typename S::V x) {
  using V = typename S::V;
  x = S::Max(S::Set(-86.0f), x);
  // Added to 1.5 · 2²³, whose last bit is worth 1, a number is rounded to n, which is in the low bits.
  const V shift = S::Set(0x1.8p23f);
  const V shifted = S::Fma(x, S::Set(0x1.715476p+0f), shift);
  const V n = S::Sub(shifted, shift);
  V r = S::Fma(n, S::Set(-0x1.62e400p-1f), x);  // ln 2's high bits: exact
  r = S::Fma(n, S::Set(-0x1.7f7d1cp-20f), r);
  V p = S::Set(0x1.6d110cp-10f);
  p = S::Fma(p, r, S::Set(0x1.120b6ep-7f));
  p = S::Fma(p, r, S::Set(0x1.55551ap-5f));
  p = S::Fma(p, r, S::Set(0x1.5554dcp-3f));
  p = S::Fma(p, r, S::Set(0.5f));
  p = S::Fma(p, r, S::Set(1.0f));
  p = S::Fma(p, r, S::Set(1.0f));
  return S::ShiftExponent(p, shifted);
}

}  // namespace tiercel::kernels::simd
