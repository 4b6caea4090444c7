// FP8 by BFDOT, of BF16 that binary16 and FP32 make.
#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/fp8_matmul_impl.h"
#include "kernels/simd/fp8_pair_impl.h"

namespace tiercel::kernels::neon {
namespace {

struct Fp8PairLanes : simd::Fp8Pair<Simd> {
  using W = Two<bfloat16x8_t>;
  static constexpr float kFactor = 256;  // of binary16: fp8_fma_impl.h
  static constexpr int kTileRows = 6;    // 24 sums of 32 registers
  static constexpr int kParts = 1;
  static constexpr int Units(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
  [[gnu::always_inline]] static void Decode(const uint8_t* p, W (&w)[kParts][2]) {
    const int8x16_t first = vreinterpretq_s8_u8(vld1q_u8(p)), second = vreinterpretq_s8_u8(vld1q_u8(p + kStripColumns));
    w[0][0] = Pairs(vget_low_s8(first), vget_low_s8(second));
    w[0][1] = Pairs(vget_high_s8(first), vget_high_s8(second));
  }
  [[gnu::always_inline]] static bfloat16x8_t Broadcast(const BF16* x) {
    uint32_t pair;
    __builtin_memcpy(&pair, x, sizeof(pair));
    return vreinterpretq_bf16_u32(vdupq_n_u32(pair));
  }
  [[gnu::always_inline]] static V Dot(V sum, bfloat16x8_t x, W w) {
    return {vbfdotq_f32(sum.low, w.low, x), vbfdotq_f32(sum.high, w.high, x)};
  }

 private:
  // The sign is copied upwards, then shifted into its place and its copy cleared.
  [[gnu::always_inline]] static float16x8_t Halfs(int8x8_t codes) {
    return vreinterpretq_f16_s16(vandq_s16(vshll_n_s8(codes, 7), vdupq_n_s16(static_cast<int16_t>(0xbfff))));
  }
  // The upper halves of two FP32 numbers, which hold all of these.
  [[gnu::always_inline]] static bfloat16x8_t Pair(float32x4_t first, float32x4_t second) {
    return vreinterpretq_bf16_u32(vsriq_n_u32(vreinterpretq_u32_f32(second), vreinterpretq_u32_f32(first), 16));
  }
  [[gnu::always_inline]] static W Pairs(int8x8_t first, int8x8_t second) {
    const float16x8_t a = Halfs(first), b = Halfs(second);
    return {Pair(vcvt_f32_f16(vget_low_f16(a)), vcvt_f32_f16(vget_low_f16(b))),
            Pair(vcvt_high_f32_f16(a), vcvt_high_f32_f16(b))};
  }
};

}  // namespace

void Fp8MatmulBf16Dot(const MatmulArgs& args, Share share) { simd::Fp8Matmul<Fp8PairLanes>(args, share); }

}  // namespace tiercel::kernels::neon
