// The sampler's row operators that need no ISA of their own, once for all vector widths.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace tiercel::kernels::simd {

// Four sums of kLanes each cover the adder's latency; chunks keep them short, as the rounding of
// equal terms does not cancel out.
template <typename S>
float SumExp(const float* x, int64_t n, float max, float scale) {
  using V = typename S::V;
  constexpr int64_t kChunk = 4096;
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  if (max == kNone) return 0;  // nothing to sum; −∞ − (−∞) would be a NaN
  const V m = S::Set(max), f = S::Set(scale), none = S::Set(kNone);
  // Max gives its second operand where the first is a NaN.
  const auto term = [&](V v) { return S::Exp(S::Mul(S::Sub(S::Max(v, none), m), f)); };
  double total = 0;
  for (int64_t i = 0; i < n;) {
    const int64_t end = std::min(i + kChunk, n);
    V sum[4] = {S::Zero(), S::Zero(), S::Zero(), S::Zero()};
    for (; i + 4 * S::kLanes <= end; i += 4 * S::kLanes) {
      for (int j = 0; j < 4; ++j) {
        sum[j] = S::Add(sum[j], term(S::Load(x + i + j * S::kLanes)));
      }
    }
    for (int j = 0; i < end; i += S::kLanes, ++j) {
      float tail[S::kLanes];
      for (int k = 0; k < S::kLanes; ++k) tail[k] = i + k < end ? x[i + k] : kNone;
      sum[j & 3] = S::Add(sum[j & 3], S::KeepFirst(term(S::Load(tail)), end - i, S::Zero()));
    }
    total += S::Sum(S::Add(S::Add(sum[0], sum[1]), S::Add(sum[2], sum[3])));
  }
  return static_cast<float>(total);
}

template <typename S>
void Scale(float* x, int64_t n, float factor) {
  int64_t i = 0;
  for (; i + S::kLanes <= n; i += S::kLanes) S::Store(x + i, S::Mul(S::Load(x + i), S::Set(factor)));
  for (; i < n; ++i) x[i] *= factor;
}

}  // namespace tiercel::kernels::simd
