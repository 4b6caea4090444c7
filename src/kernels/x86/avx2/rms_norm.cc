#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"
#include "kernels/x86/norm_rope_impl.h"

namespace tiercel::kernels::avx2 {

void RmsNorm(const RmsNormArgs& args, Share share) { x86::RmsNorm<Simd>(args, share); }

}  // namespace tiercel::kernels::avx2
