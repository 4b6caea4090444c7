#include "kernels/simd/quantize_impl.h"

#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {

void Quantize(const QuantizeArgs& args, Share share) { simd::Quantize<Simd>(args, share); }
void SwiGlu(const SwiGluArgs& args, Share share) { simd::SwiGlu<Simd>(args, share); }

}  // namespace tiercel::kernels::avx512
