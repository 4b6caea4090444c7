#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/norm_rope_impl.h"

namespace tiercel::kernels::neon {

void RmsNorm(const RmsNormArgs& args, Share share) { simd::RmsNorm<Simd>(args, share); }

}  // namespace tiercel::kernels::neon
