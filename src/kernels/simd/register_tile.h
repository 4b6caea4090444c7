// A tile of sums that a kernel's inner loop keeps in registers, once for all vector widths (S is an
// ISA's Simd).
#pragma once

#include <cstdint>

namespace tiercel::kernels::simd {

// kRows × kVectors vectors, as many as the ISA's registers hold beside what is multiplied. GCC keeps
// them in registers only if the loops over them are gone before it looks: hence the pragmas.
template <typename S, int kRows, int kVectors>
struct RegisterTile {
  using V = typename S::V;
  V sum[kRows][kVectors];

  [[gnu::always_inline]] void Clear() {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[r][v] = S::Zero();
    }
  }

  // From and to rows that are `stride` floats apart.
  [[gnu::always_inline]] void Load(const float* from, int64_t stride) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[r][v] = S::Load(from + r * stride + v * S::kLanes);
    }
  }
  [[gnu::always_inline]] void Store(float* to, int64_t stride) const {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) S::Store(to + r * stride + v * S::kLanes, sum[r][v]);
    }
  }

  // sum[r][v] = add(sum[r][v], factor(r), numbers(v)), each factor and number made once.
  template <typename Factor, typename Number, typename Add>
  [[gnu::always_inline]] void Accumulate(const Factor& factor, const Number& number,
                                         const Add& add) {
    decltype(number(0)) numbers[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) numbers[v] = number(v);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const auto f = factor(r);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[r][v] = add(sum[r][v], f, numbers[v]);
    }
  }
  // sum[r][v] += factor(r) · number(v)
  template <typename Factor, typename Number>
  [[gnu::always_inline]] void AddProducts(const Factor& factor, const Number& number) {
    Accumulate(factor, number, [](V sum, V f, V n) __attribute__((always_inline)) {
      return S::Fma(f, n, sum);
    });
  }
  // sum += x · w over `count` numbers k, a multiple of 4: rows of x are x_stride apart, w is
  // [count][kVectors · kLanes].
  [[gnu::always_inline]] void AddMatrix(const float* x, int64_t x_stride, const float* w, int64_t count) {
    for (const float* const end = x + count; x < end; x += 4) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k, w += kVectors * S::kLanes) {
        AddProducts(
            [&](int r) __attribute__((always_inline)) { return S::Set(x[r * x_stride + k]); },
            [&](int v) __attribute__((always_inline)) { return S::Load(w + v * S::kLanes); });
        asm volatile("" : : : "memory");  // the next loads early would take a sum's register
      }
    }
  }
  // sum[r][v] ·= number(v)
  template <typename Number>
  [[gnu::always_inline]] void Scale(const Number& number) {
    Accumulate([](int) { return 0; }, number, [](V sum, int, V n) __attribute__((always_inline)) {
      return S::Mul(sum, n);
    });
  }
};

}  // namespace tiercel::kernels::simd
