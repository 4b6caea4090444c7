// The sampler's row operators that need no ISA of their own, once for all vector widths.
#pragma once

#include <cstdint>
#include <limits>

namespace tiercel::kernels::x86 {

// Four sums of kLanes each cover the adder's latency and keep partial sums short.
template <typename S>
float SumExp(const float* x, int64_t n, float max, float scale) {
  using V = typename S::V;
  const V m = S::Set(max), f = S::Set(scale);
  V sum[4] = {S::Zero(), S::Zero(), S::Zero(), S::Zero()};
  const auto term = [&](V v) { return S::Exp(S::Mul(S::Sub(v, m), f)); };
  int64_t i = 0;
  for (; i + 4 * S::kLanes <= n; i += 4 * S::kLanes) {
    for (int j = 0; j < 4; ++j) {
      sum[j] = S::Add(sum[j], term(S::Load(x + i + j * S::kLanes)));
    }
  }
  for (int j = 0; i < n; i += S::kLanes, ++j) {
    float tail[S::kLanes];
    for (int k = 0; k < S::kLanes; ++k) {
      tail[k] = i + k < n ? x[i + k] : -std::numeric_limits<float>::infinity();
    }
    sum[j & 3] = S::Add(sum[j & 3], S::KeepFirst(term(S::Load(tail)), n - i, S::Zero()));
  }
  return S::Sum(S::Add(S::Add(sum[0], sum[1]), S::Add(sum[2], sum[3])));
}

template <typename S>
void Scale(float* x, int64_t n, float factor) {
  int64_t i = 0;
  for (; i + S::kLanes <= n; i += S::kLanes) S::Store(x + i, S::Mul(S::Load(x + i), S::Set(factor)));
  for (; i < n; ++i) x[i] *= factor;
}

}  // namespace tiercel::kernels::x86
