#include <arm_neon.h>

#include "kernels/arm/neon/kernels.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::neon {

// Sixteen independent chains cover a latency of 4 cycles on four ports.
int64_t PeakMatmul(int64_t iterations) {
  constexpr int kChains = 16;
  float32x4_t acc[kChains];
  for (float32x4_t& x : acc) x = vdupq_n_f32(0);
  float32x4_t a = vdupq_n_f32(1.0f), b = vdupq_n_f32(0.5f);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) acc[c] = vfmaq_f32(acc[c], a, b);
    asm volatile("" : "+w"(a), "+w"(b));
  }
  for (float32x4_t& x : acc) asm volatile("" : : "w"(x));
  return iterations * kChains * 4 * 2;
}

uint64_t ReadStream(const void* data, int64_t bytes) {
  const auto* p = static_cast<const uint64_t*>(data);
  uint64x2_t acc[8];
  for (uint64x2_t& x : acc) x = vdupq_n_u64(0);
  simd::StreamAhead<simd::kToL1> ahead(p + 1024);  // 8 KiB
  for (int64_t i = 0; i + 16 <= bytes / 8; i += 16) {
    ahead.AskPair();
    for (int j = 0; j < 8; ++j) acc[j] = veorq_u64(acc[j], vld1q_u64(p + i + 2 * j));
  }
  for (int j = 1; j < 8; ++j) acc[0] = veorq_u64(acc[0], acc[j]);
  return vgetq_lane_u64(acc[0], 0) ^ vgetq_lane_u64(acc[0], 1);
}

}  // namespace tiercel::kernels::neon
