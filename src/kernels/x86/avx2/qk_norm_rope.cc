#include "kernels/simd/norm_rope_impl.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {

void QkNormRope(const QkNormRopeArgs& args, Share share) { simd::QkNormRope<Simd>(args, share); }

}  // namespace tiercel::kernels::avx2
