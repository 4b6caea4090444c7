#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"
#include "kernels/x86/norm_rope_impl.h"

namespace tiercel::kernels::avx512 {

void QkNormRope(const QkNormRopeArgs& args, Share share) { x86::QkNormRope<Simd>(args, share); }

}  // namespace tiercel::kernels::avx512
