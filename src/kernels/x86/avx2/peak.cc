#include <immintrin.h>

#include "kernels/simd/stream_ahead.h"
#include "kernels/x86/avx2/kernels.h"

namespace tiercel::kernels::avx2 {

// Ten independent chains cover the FMA latency of 4–5 cycles on two ports.
int64_t PeakMatmul(int64_t iterations) {
  constexpr int kChains = 10;
  __m256 acc[kChains];
  for (__m256& x : acc) x = _mm256_setzero_ps();
  __m256 a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(0.5f);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) acc[c] = _mm256_fmadd_ps(a, b, acc[c]);
    asm volatile("" : "+x"(a), "+x"(b));
  }
  for (__m256& x : acc) asm volatile("" : : "x"(x));
  return iterations * kChains * 8 * 2;
}

uint64_t ReadStream(const void* data, int64_t bytes) {
  const auto* p = static_cast<const __m256i*>(data);
  __m256i acc[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                    _mm256_setzero_si256()};
  simd::StreamAhead<simd::kToL1> ahead(p + 256);  // 8 KiB
  for (int64_t i = 0; i + 4 <= bytes / 32; i += 4) {
    ahead.AskPair();
    for (int j = 0; j < 4; ++j) acc[j] = _mm256_xor_si256(acc[j], _mm256_load_si256(p + i + j));
  }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(acc[0], acc[1]), _mm256_xor_si256(acc[2], acc[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 2));
}

}  // namespace tiercel::kernels::avx2
