#include "kernels/simd/quantize_impl.h"

#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {

void Quantize(const QuantizeArgs& args, Share share) { simd::Quantize<Simd>(args, share); }
void SwiGlu(const SwiGluArgs& args, Share share) { simd::SwiGlu<Simd>(args, share); }

}  // namespace tiercel::kernels::avx2
