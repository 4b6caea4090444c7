#include "kernels/simd/attention_impl.h"

#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {

int64_t AttentionScratchBytes(const AttentionArgs& args, int) {
  return simd::AttentionScratch<Simd>::Bytes(args);
}

void Attention(const AttentionArgs& args, Share share) { simd::Attention<Simd>(args, share); }

}  // namespace tiercel::kernels::avx512
