// W8A8 by UDOT.
#include "kernels/arm/neon/quad_lanes.h"

namespace tiercel::kernels::neon {
namespace {

struct DotLanes : QuadLanes {
  static V Dot(V sum, W x, W w) { return vdotq_u32(sum, x, w); }
};

}  // namespace

void QuantMatmulDot(const QuantMatmulArgs& args, Share share) { simd::Matmul<DotLanes>(args, share); }

// Sixteen independent chains cover a latency of 4 cycles on four ports.
int64_t PeakMatmulI8Dot(int64_t iterations) {
  constexpr int kChains = 16;
  uint32x4_t acc[kChains];
  for (uint32x4_t& x : acc) x = vdupq_n_u32(0);
  uint8x16_t a = vdupq_n_u8(3), b = vdupq_n_u8(5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) acc[c] = vdotq_u32(acc[c], a, b);
    asm volatile("" : "+w"(a), "+w"(b));
  }
  for (uint32x4_t& x : acc) asm volatile("" : : "w"(x));
  return iterations * kChains * 16 * 2;
}

}  // namespace tiercel::kernels::neon
