#include "kernels/simd/norm_rope_impl.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {

void RmsNorm(const RmsNormArgs& args, Share share) { simd::RmsNorm<Simd>(args, share); }

}  // namespace tiercel::kernels::avx2
