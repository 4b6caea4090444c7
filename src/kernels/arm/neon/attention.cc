#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/attention_impl.h"

namespace tiercel::kernels::neon {

int64_t AttentionScratchBytes(const AttentionArgs& args, int) {
  return simd::AttentionScratch<Simd>::Bytes(args);
}

void Attention(const AttentionArgs& args, Share share) { simd::Attention<Simd>(args, share); }

}  // namespace tiercel::kernels::neon
