// Block formats by SMMLA: of two rows and four columns at a time.
#include "kernels/arm/neon/block_lanes.h"

namespace tiercel::kernels::neon {
namespace {

// A register has two columns of both rows, 64 bits a row; `low` the first two of four.
struct MmlaBlocks : BlockLanes {
  using I = Two<int32x4_t>;
  using F = Two<float32x4_t>;
  using W = Two<int8x16_t>;  // 64 bits a column
  static constexpr bool kTakesPairs = true;
  template <int kBits>
  [[gnu::always_inline]] static W Weights(uint8x16_t first, uint8x16_t second) {
    const int32x4_t a = vreinterpretq_s32_s8(Signed<kBits>(first)), b = vreinterpretq_s32_s8(Signed<kBits>(second));
    return {vreinterpretq_s8_s32(vzip1q_s32(a, b)), vreinterpretq_s8_s32(vzip2q_s32(a, b))};
  }
  [[gnu::always_inline]] static I Dot(I sum, W w, const int8_t* x, int64_t next) {
    const int8x16_t rows = vcombine_s8(vld1_s8(x), vld1_s8(x + next));
    return {vmmlaq_s32(sum.low, rows, w.low), vmmlaq_s32(sum.high, rows, w.high)};
  }
  static I Zero() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static I Broadcast(const int32_t* p, int64_t next) {
    const int32x4_t rows = vcombine_s32(vld1_dup_s32(p), vld1_dup_s32(p + next / 4));
    return {rows, rows};
  }
  template <int n>
  static I ShiftLeft(I v) { return {vshlq_n_s32(v.low, n), vshlq_n_s32(v.high, n)}; }
  static F ToFloat(I v) { return {vcvtq_f32_s32(v.low), vcvtq_f32_s32(v.high)}; }
  static F SetF(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
  static F SetF(const float* p, int64_t next) {
    const float32x4_t rows = vcombine_f32(vld1_dup_f32(p), vld1_dup_f32(p + next / 4));
    return {rows, rows};
  }
  static F Fma(F a, F b, F c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
  static F Mul(F a, F b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
  static void Store(float* p, int64_t next, F v) {
    vst1q_f32(p, vcombine_f32(vget_low_f32(v.low), vget_low_f32(v.high)));
    vst1q_f32(p + next, vcombine_f32(vget_high_f32(v.low), vget_high_f32(v.high)));
  }
  static F Halfs(const uint8_t* p) { return OfBothRows(BlockLanes::Halfs(p)); }
  static F Bytes(const uint8_t* p) { return OfBothRows(BlockLanes::Bytes(p)); }
  static F SignedBytes(const uint8_t* p) { return OfBothRows(BlockLanes::SignedBytes(p)); }
  template <int kPart, bool kOdd>
  [[gnu::always_inline]] static F SixBits(const uint8_t* low, const uint8_t* high) {
    return OfBothRows(BlockLanes::SixBits<kPart, kOdd>(low, high));
  }

 private:
  static F OfBothRows(float32x4_t columns) {
    return {vcombine_f32(vget_low_f32(columns), vget_low_f32(columns)),
            vcombine_f32(vget_high_f32(columns), vget_high_f32(columns))};
  }
};

}  // namespace

void BlockMatmulMmla(const BlockMatmulArgs& args, Share share) {
  if (args.rows < 2) return BlockMatmulDot(args, share);
  simd::BlockMatmul<MmlaBlocks>(args, share);
}

}  // namespace tiercel::kernels::neon
