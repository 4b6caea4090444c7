// What simd/block_matmul_impl.h is written in, but for the dot product.
#pragma once

#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/block_matmul_impl.h"

namespace tiercel::kernels::neon {

// A row has a register for the products of a group, one for a block and four, a vector of columns each, for all: 24 of the
// 32 with 4 rows.
struct BlockLanes {
  using I = uint8x16_t;
  using F = float32x4_t;
  using Simd = neon::Simd;
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 4;
  static constexpr bool kCentersBytes = true;  // products are of signed bytes
  static I Load(const void* p) { return vld1q_u8(static_cast<const uint8_t*>(p)); }
  static I And(I a, I b) { return vandq_u8(a, b); }
  static I Set8(int x) { return vdupq_n_u8(static_cast<uint8_t>(x)); }
  template <int n>
  static I ShiftLeft(I v) { return Bits(vshlq_n_s32(Ints(v), n)); }
  template <int n>
  [[gnu::always_inline]] static I Shift(I v) {
    if constexpr (n > 0) return vshlq_n_u8(v, n);
    if constexpr (n < 0) return vshrq_n_u8(v, -n);
    return v;
  }
  static I AddBits(I a, I b, I mask) { return vorrq_u8(a, vandq_u8(b, mask)); }
  static I Zero() { return vdupq_n_u8(0); }
  static I Broadcast(const int32_t* p) { return Bits(vdupq_n_s32(*p)); }
  static F ToFloat(I v) { return vcvtq_f32_s32(Ints(v)); }
  static F SetF(float x) { return vdupq_n_f32(x); }
  static F Fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F Mul(F a, F b) { return vmulq_f32(a, b); }
  static void Store(float* p, F v) { vst1q_f32(p, v); }
  static F Halfs(const uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
  static F Bytes(const uint8_t* p) { return Floats(Load4(p)); }
  static F SignedBytes(const uint8_t* p) {
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(Load4(p))))));
  }
  template <int kPart, bool kOdd>
  [[gnu::always_inline]] static F SixBits(const uint8_t* low, const uint8_t* high) {
    const uint8x8_t l = Load4(low), h = Load4(high);
    const uint8x8_t four = kPart == 0 ? l : vshr_n_u8(l, 4);
    const uint8x8_t up = kOdd ? (kPart == 0 ? h : vshr_n_u8(h, 2)) : (kPart == 0 ? vshl_n_u8(h, 4) : vshl_n_u8(h, 2));
    return Floats(vorr_u8(vand_u8(four, vdup_n_u8(15)), vand_u8(up, vdup_n_u8(0x30))));
  }

 protected:
  static int32x4_t Ints(I v) { return vreinterpretq_s32_u8(v); }
  static I Bits(int32x4_t v) { return vreinterpretq_u8_s32(v); }
  // x's quad in every lane.
  static int8x16_t Quad(const int8_t* x) {
    int32_t quad;
    __builtin_memcpy(&quad, x, sizeof(quad));
    return vreinterpretq_s8_s32(vdupq_n_s32(quad));
  }
  // Codes of fewer than eight bits are signed bytes as they are; those of eight lose their zero point, 128.
  template <int kBits>
  static int8x16_t Signed(I codes) {
    return vreinterpretq_s8_u8(kBits < 8 ? codes : veorq_u8(codes, vdupq_n_u8(0x80)));
  }

 private:
  static uint8x8_t Load4(const uint8_t* p) {
    uint32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return vreinterpret_u8_u32(vdup_n_u32(four));
  }
  static F Floats(uint8x8_t bytes) { return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))); }
};

}  // namespace tiercel::kernels::neon
