// W8A8 without dot products. Those of bytes fill 16 bits, and are added in pairs to 32.
#include "kernels/arm/neon/quad_lanes.h"

namespace tiercel::kernels::neon {
namespace {

struct WideningLanes : QuadLanes {
  static V Dot(V sum, W x, W w) {
    const uint32x4_t low = vpaddlq_u16(vmull_u8(vget_low_u8(x), vget_low_u8(w)));
    const uint32x4_t high = vpaddlq_u16(vmull_high_u8(x, w));
    return vaddq_u32(sum, vpaddq_u32(low, high));
  }
};

}  // namespace

void QuantMatmul(const QuantMatmulArgs& args, Share share) { simd::Matmul<WideningLanes>(args, share); }

// Eight independent sums of what WideningLanes::Dot does.
int64_t PeakMatmulI8(int64_t iterations) {
  constexpr int kChains = 8;
  uint32x4_t acc[kChains];
  for (uint32x4_t& x : acc) x = vdupq_n_u32(0);
  uint8x16_t a = vdupq_n_u8(3), b = vdupq_n_u8(5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < kChains; ++c) {
      acc[c] = WideningLanes::Dot(acc[c], a, b);
      asm volatile("" : "+w"(a), "+w"(b));  // each one anew
    }
  }
  for (uint32x4_t& x : acc) asm volatile("" : : "w"(x));
  return iterations * kChains * 16 * 2;
}

}  // namespace tiercel::kernels::neon
