#include "kernels/x86/attention_impl.h"

#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {

int64_t AttentionScratchBytes(const AttentionArgs& args, int) {
  return x86::AttentionScratch<Simd>::Bytes(args);
}

void Attention(const AttentionArgs& args, Share share) { x86::Attention<Simd>(args, share); }

}  // namespace tiercel::kernels::avx512
