// Attention by vdpbf16ps: twice the products of FP32 FMA where the unit is whole (Zen 4 and later).
#include "kernels/simd/attention_impl.h"

#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/pair_dot.h"

namespace tiercel::kernels::avx512 {

void AttentionBf16Dot(const AttentionArgs& args, Share share) {
  if (args.layout.dtype == DType::kBF16) {
    simd::AttentionOver<PairDot, BF16>(args, share);
  } else {
    Attention(args, share);
  }
}

}  // namespace tiercel::kernels::avx512
