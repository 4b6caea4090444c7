// W8A8 by USMMLA, whose bytes are unsigned in x and signed in the weights, as they are.
#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/pair_lanes.h"

namespace tiercel::kernels::neon {
namespace {

struct QuadPairs : PairLanes<QuantMatmulArgs, int32_t> {
  [[gnu::always_inline]] static V Dot(V sum, X x, W w) {
    const auto product = [x](uint64x2_t s, uint32x4_t columns) __attribute__((always_inline)) {
      return vreinterpretq_u64_s32(
          vusmmlaq_s32(vreinterpretq_s32_u64(s), vreinterpretq_u8_u32(x), vreinterpretq_s8_u32(columns)));
    };
    return {product(sum.low, w.low), product(sum.high, w.high)};
  }
};

}  // namespace

void QuantMatmulMmla(const QuantMatmulArgs& args, Share share) {
  if (args.rows < 2) return QuantMatmulDot(args, share);
  simd::Matmul<QuadPairs>(args, share);
}

// Sixteen independent chains cover a latency of 4 cycles on four ports.
int64_t PeakMatmulI8Mmla(int64_t iterations) {
  constexpr int kChains = 16;
  int32x4_t acc[kChains];
  for (int32x4_t& x : acc) x = vdupq_n_s32(0);
  uint8x16_t a = vdupq_n_u8(3);
  int8x16_t b = vdupq_n_s8(-5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) acc[c] = vusmmlaq_s32(acc[c], a, b);
    asm volatile("" : "+w"(a), "+w"(b));
  }
  for (int32x4_t& x : acc) asm volatile("" : : "w"(x));
  return iterations * kChains * 32 * 2;
}

}  // namespace tiercel::kernels::neon
