// Attention by BFDOT.
#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/attention_impl.h"

namespace tiercel::kernels::neon {
namespace {

struct SimdBf16Dot : Simd {
  static constexpr bool kPairDot = true;
  static Raw SetPair(const BF16* p) {
    uint32_t pair;
    std::memcpy(&pair, p, sizeof(pair));
    const uint32x4_t all = vdupq_n_u32(pair);
    return {all, all};
  }
  static void NarrowPair(BF16* p, V low, V high) {
    Narrow(p, low);
    Narrow(p + kLanes, high);
  }
  static V Dot(V sum, Raw a, Raw b) {
    return Both([](float32x4_t s, uint32x4_t x, uint32x4_t y) __attribute__((always_inline)) {
      return vbfdotq_f32(s, vreinterpretq_bf16_u32(x), vreinterpretq_bf16_u32(y));
    }, sum, a, b);
  }
};

}  // namespace

void AttentionBf16Dot(const AttentionArgs& args, Share share) {
  if (args.layout.dtype == DType::kBF16) {
    simd::AttentionOver<SimdBf16Dot, BF16>(args, share);
  } else {
    Attention(args, share);
  }
}

}  // namespace tiercel::kernels::neon
