#include "kernels/simd/norm_rope_impl.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {

void QkNormRope(const QkNormRopeArgs& args, Share share) { simd::QkNormRope<Simd>(args, share); }

}  // namespace tiercel::kernels::avx512
