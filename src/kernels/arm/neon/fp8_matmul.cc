#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/fp8_fma_impl.h"
#include "kernels/simd/fp8_matmul_impl.h"

namespace tiercel::kernels::neon {
namespace {

struct Fp8Lanes : simd::Fp8Fma<Simd> {
  static constexpr int kTileRows = 6;  // 24 sums of 32 registers
  static constexpr int kParts = 1;
  static constexpr int Units(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
  // The sign is copied upwards, then shifted into its place and its copy cleared.
  [[gnu::always_inline]] static void Decode(const uint8_t* p, W (&w)[kParts][2]) {
    const int8x16_t codes = vreinterpretq_s8_u8(vld1q_u8(p));
    const auto floats = [](int16x8_t wide) __attribute__((always_inline)) -> V {
      const float16x8_t halfs =
          vreinterpretq_f16_s16(vandq_s16(vshlq_n_s16(wide, 7), vdupq_n_s16(static_cast<int16_t>(0xbfff))));
      return {vcvt_f32_f16(vget_low_f16(halfs)), vcvt_high_f32_f16(halfs)};
    };
    w[0][0] = floats(vmovl_s8(vget_low_s8(codes)));
    w[0][1] = floats(vmovl_high_s8(codes));
  }
};

}  // namespace

void Fp8Matmul(const MatmulArgs& args, Share share) { simd::Fp8Matmul<Fp8Lanes>(args, share); }

}  // namespace tiercel::kernels::neon
