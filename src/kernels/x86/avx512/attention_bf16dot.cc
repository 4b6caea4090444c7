// Attention by vdpbf16ps: twice the products of FP32 FMA where the unit is whole (Zen 4 and later).
#include "kernels/simd/attention_impl.h"

#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {
namespace {

struct SimdBf16Dot : Simd {
  static constexpr bool kPairDot = true;
  static Raw SetPair(const BF16* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  static V Dot(V sum, Raw a, Raw b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

}  // namespace

void AttentionBf16Dot(const AttentionArgs& args, Share share) {
  simd::Attention<SimdBf16Dot>(args, share);
}

}  // namespace tiercel::kernels::avx512
