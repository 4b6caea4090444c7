// The loop of the yardsticks (machine_limits.h).
#pragma once

#include <cstdint>

namespace tiercel::kernels::neon {

// Sixteen independent chains of add(sum, a, b), which cover a latency of 4 to 5 cycles on two to four ports. Returns how many
// operations that were, of so many each.
template <typename Sum, typename A, typename B, typename Add>
[[gnu::always_inline]] inline int64_t PeakOfChains(int64_t iterations, int64_t operations, Sum zero, A a, B b, const Add& add) {
  constexpr int kChains = 16;
  Sum sums[kChains];
  for (Sum& x : sums) x = zero;
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) sums[c] = add(sums[c], a, b);
    asm volatile("" : "+w"(a), "+w"(b));
  }
  for (Sum& x : sums) asm volatile("" : : "w"(x));
  return iterations * kChains * operations;
}

}  // namespace tiercel::kernels::neon
