// What simd/matmul_impl.h is written in for W8A8, but for the dot product. It is that of unsigned bytes: 128 is added
// to the weights, and 128 · Σ x taken away from a row's sums in the end, all modulo 2³².
#pragma once

#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/epilogue_impl.h"

namespace tiercel::kernels::neon {

struct QuadLanes {
  using Args = QuantMatmulArgs;
  using Sum = int32_t;
  using V = uint32x4_t;
  using W = uint8x16_t;
  using X = W;
  static constexpr int kParts = 1;
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 6;     // 24 sums,
  static constexpr int kTileVectors = 4;  // 4 registers of weights and a broadcast of the 32
  // Of a block's columns 24 KiB stay in L1.
  static constexpr int64_t Chunk(int64_t) { return 384; }
  static V Zero() { return vdupq_n_u32(0); }
  static V Load(const Sum* p) { return vreinterpretq_u32_s32(vld1q_s32(p)); }
  static void Store(Sum* p, V v) { vst1q_s32(p, vreinterpretq_s32_u32(v)); }
  static W LoadWeights(const char* p) {
    return veorq_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p)), vdupq_n_u8(0x80));
  }
  static W Broadcast(const char* p) {
    uint32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return vreinterpretq_u8_u32(vdupq_n_u32(quad));
  }
  // Once for a row and a block of columns: a sixty-fourth of its products, in additions of 16 bytes.
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width, const Sum* sums) {
    const uint8_t* x = args.x + row * args.ldx;
    uint32x4_t sum = vdupq_n_u32(0);
    for (int64_t k = 0; k < args.weight->k_padded; k += 16) sum = vpadalq_u16(sum, vpaddlq_u8(vld1q_u8(x + k)));
    const uint32x4_t added = vshlq_n_u32(vdupq_n_u32(vaddvq_u32(sum)), 7);
    Sum exact[kColumnBlock];
    for (int64_t c = 0; c < width; c += kLanes) Store(exact + c, vsubq_u32(Load(sums + c), added));
    simd::FinishRow<Simd>(args, row, column, width, exact);
  }
};

}  // namespace tiercel::kernels::neon
