#include <immintrin.h>

#include "kernels/simd/stream_ahead.h"
#include "kernels/x86/avx512/kernels.h"

namespace tiercel::kernels::avx512 {

// Twelve independent chains cover the FMA latency of 4 cycles on two ports.
int64_t PeakMatmul(int64_t iterations) {
  constexpr int kChains = 12;
  __m512 acc[kChains];
  for (__m512& x : acc) x = _mm512_setzero_ps();
  __m512 a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(0.5f);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = _mm512_fmadd_ps(a, b, acc[c]);
    asm volatile("" : "+v"(a), "+v"(b));
  }
  for (__m512& x : acc) asm volatile("" : : "v"(x));
  return iterations * kChains * 16 * 2;
}

uint64_t ReadStream(const void* data, int64_t bytes) {
  const auto* p = static_cast<const __m512i*>(data);
  __m512i acc[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
  simd::StreamAhead<simd::kToL1> ahead(p + 128);  // 8 KiB
  for (int64_t i = 0; i + 4 <= bytes / 64; i += 4) {
    ahead.AskPair();
    ahead.AskPair();
    for (int j = 0; j < 4; ++j) acc[j] = _mm512_xor_si512(acc[j], _mm512_load_si512(p + i + j));
  }
  const __m512i all =
      _mm512_xor_si512(_mm512_xor_si512(acc[0], acc[1]), _mm512_xor_si512(acc[2], acc[3]));
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(all));
}

}  // namespace tiercel::kernels::avx512
