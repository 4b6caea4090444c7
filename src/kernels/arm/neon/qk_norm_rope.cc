#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/norm_rope_impl.h"

namespace tiercel::kernels::neon {

void QkNormRope(const QkNormRopeArgs& args, Share share) { simd::QkNormRope<Simd>(args, share); }

}  // namespace tiercel::kernels::neon
