// Matmul by BFMMLA. Of each element it adds two k pairs, one after the other, as BFDOT would: the same bits.
#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/pair_lanes.h"

namespace tiercel::kernels::neon {
namespace {

struct Bf16Pairs : PairLanes<MatmulArgs, float> {
  [[gnu::always_inline]] static V Dot(V sum, X x, W w) {
    const auto product = [x](uint64x2_t s, uint32x4_t columns) __attribute__((always_inline)) {
      return vreinterpretq_u64_f32(
          vbfmmlaq_f32(vreinterpretq_f32_u64(s), vreinterpretq_bf16_u32(x), vreinterpretq_bf16_u32(columns)));
    };
    return {product(sum.low, w.low), product(sum.high, w.high)};
  }
};

}  // namespace

void MatmulMmla(const MatmulArgs& args, Share share) {
  if (args.rows < 2) return MatmulBf16Dot(args, share);
  simd::Matmul<Bf16Pairs>(args, share);
}

// Sixteen independent chains cover a latency of 4 to 5 cycles on two to four ports.
int64_t PeakMatmulMmla(int64_t iterations) {
  constexpr int kChains = 16;
  float32x4_t acc[kChains];
  for (float32x4_t& x : acc) x = vdupq_n_f32(0);
  uint32x4_t a = vdupq_n_u32(0x3f803f80), b = a;  // pairs of 1.0
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      acc[c] = vbfmmlaq_f32(acc[c], vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(b));
    }
    asm volatile("" : "+w"(a), "+w"(b));
  }
  for (float32x4_t& x : acc) asm volatile("" : : "w"(x));
  return iterations * kChains * 16 * 2;
}

}  // namespace tiercel::kernels::neon
