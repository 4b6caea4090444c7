// Matmul by BFMMLA. Of each element it adds two k pairs, one after the other, as BFDOT would: the same bits.
#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/pair_lanes.h"
#include "kernels/arm/neon/peak_chains.h"

namespace tiercel::kernels::neon {
namespace {

struct Bfmmla {
  [[gnu::always_inline]] static uint64x2_t Add(uint64x2_t sums, uint32x4_t x, uint32x4_t w) {
    return vreinterpretq_u64_f32(
        vbfmmlaq_f32(vreinterpretq_f32_u64(sums), vreinterpretq_bf16_u32(x), vreinterpretq_bf16_u32(w)));
  }
};

}  // namespace

void MatmulMmla(const MatmulArgs& args, Share share) {
  if (args.rows < 2) return MatmulBf16Dot(args, share);
  simd::Matmul<PairLanes<MatmulArgs, float, Bfmmla>>(args, share);
}

int64_t PeakMatmulMmla(int64_t iterations) {
  const uint32x4_t ones = vdupq_n_u32(0x3f803f80);  // pairs of 1.0
  return PeakOfChains(iterations, 16 * 2, vdupq_n_f32(0), ones, ones,
                      [](float32x4_t sum, uint32x4_t a, uint32x4_t b) __attribute__((always_inline)) {
                        return vbfmmlaq_f32(sum, vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(b));
                      });
}

}  // namespace tiercel::kernels::neon
