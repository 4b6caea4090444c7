// W8A8 by USMMLA, whose bytes are unsigned in x and signed in the weights, as they are.
#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/pair_lanes.h"
#include "kernels/arm/neon/peak_chains.h"

namespace tiercel::kernels::neon {
namespace {

struct Usmmla {
  [[gnu::always_inline]] static uint64x2_t Add(uint64x2_t sums, uint32x4_t x, uint32x4_t w) {
    return vreinterpretq_u64_s32(
        vusmmlaq_s32(vreinterpretq_s32_u64(sums), vreinterpretq_u8_u32(x), vreinterpretq_s8_u32(w)));
  }
};

}  // namespace

void QuantMatmulMmla(const QuantMatmulArgs& args, Share share) {
  if (args.rows < 2) return QuantMatmulDot(args, share);
  simd::Matmul<PairLanes<QuantMatmulArgs, int32_t, Usmmla>>(args, share);
}

int64_t PeakMatmulI8Mmla(int64_t iterations) {
  return PeakOfChains(iterations, 32 * 2, vdupq_n_s32(0), vdupq_n_u8(3), vdupq_n_s8(-5),
                      [](int32x4_t sum, uint8x16_t a, int8x16_t b) __attribute__((always_inline)) { return vusmmlaq_s32(sum, a, b); });
}

}  // namespace tiercel::kernels::neon
