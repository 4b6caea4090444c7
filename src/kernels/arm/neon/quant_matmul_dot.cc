// W8A8 by UDOT.
#include "kernels/arm/neon/peak_chains.h"
#include "kernels/arm/neon/quad_lanes.h"

namespace tiercel::kernels::neon {
namespace {

struct DotLanes : QuadLanes {
  static V Dot(V sum, W x, W w) { return vdotq_u32(sum, x, w); }
};

}  // namespace

void QuantMatmulDot(const QuantMatmulArgs& args, Share share) { simd::Matmul<DotLanes>(args, share); }

int64_t PeakMatmulI8Dot(int64_t iterations) {
  return PeakOfChains(iterations, 16 * 2, vdupq_n_u32(0), vdupq_n_u8(3), vdupq_n_u8(5),
                      [](uint32x4_t sum, uint8x16_t a, uint8x16_t b) __attribute__((always_inline)) { return vdotq_u32(sum, a, b); });
}

}  // namespace tiercel::kernels::neon
