#include <immintrin.h>

#include "kernels/x86/avx512/kernels.h"

namespace tiercel::kernels::avx512 {

// Twelve independent chains cover the latency of 5 cycles on two ports.
int64_t PeakMatmulI8(int64_t iterations) {
  constexpr int kChains = 12;
  __m512i acc[kChains];
  for (__m512i& x : acc) x = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = _mm512_dpbusd_epi32(acc[c], a, b);
    asm volatile("" : "+v"(a), "+v"(b));
  }
  for (__m512i& x : acc) asm volatile("" : : "v"(x));
  return iterations * kChains * 64 * 2;
}

}  // namespace tiercel::kernels::avx512
