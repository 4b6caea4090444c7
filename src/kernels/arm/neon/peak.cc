#include <arm_neon.h>

#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/peak_chains.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::neon {

int64_t PeakMatmul(int64_t iterations) {
  return PeakOfChains(iterations, 4 * 2, vdupq_n_f32(0), vdupq_n_f32(1.0f), vdupq_n_f32(0.5f),
                      [](float32x4_t sum, float32x4_t a, float32x4_t b) __attribute__((always_inline)) { return vfmaq_f32(sum, a, b); });
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
