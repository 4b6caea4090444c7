// Matmul by BFDOT. One instruction adds the products of a k pair for 4 columns: their sum and the new one are rounded
// to odd, unless the CPU has FEAT_EBF16 and the system asks for it, which Linux does not.
#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/peak_chains.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/epilogue_impl.h"

namespace tiercel::kernels::neon {
namespace {

struct Bf16DotLanes {
  using Args = MatmulArgs;
  using Sum = float;
  using V = float32x4_t;
  using W = bfloat16x8_t;
  using X = W;
  static constexpr int kParts = 1;
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 6;     // 24 sums,
  static constexpr int kTileVectors = 4;  // 4 registers of weights and a broadcast of the 32
  // A block's columns: 64 KiB, and as much of the next ones is on its way; L2 holds both beside x.
  static constexpr int64_t Chunk(int64_t) { return 1024; }
  static V Zero() { return vdupq_n_f32(0); }
  static V Load(const Sum* p) { return vld1q_f32(p); }
  static void Store(Sum* p, V v) { vst1q_f32(p, v); }
  static W LoadWeights(const char* p) { return vreinterpretq_bf16_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p))); }
  static W Broadcast(const char* p) {
    uint32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return vreinterpretq_bf16_u32(vdupq_n_u32(pair));
  }
  static V Dot(V sum, W x, W w) { return vbfdotq_f32(sum, w, x); }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width, const Sum* sums) {
    simd::FinishRow<Simd>(args, row, column, width, sums);
  }
};

}  // namespace

void MatmulBf16Dot(const MatmulArgs& args, Share share) { simd::Matmul<Bf16DotLanes>(args, share); }

int64_t PeakMatmulBf16Dot(int64_t iterations) {
  const uint32x4_t ones = vdupq_n_u32(0x3f803f80);  // pairs of 1.0
  return PeakOfChains(iterations, 8 * 2, vdupq_n_f32(0), ones, ones,
                      [](float32x4_t sum, uint32x4_t a, uint32x4_t b) __attribute__((always_inline)) {
                        return vbfdotq_f32(sum, vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(b));
                      });
}

}  // namespace tiercel::kernels::neon
