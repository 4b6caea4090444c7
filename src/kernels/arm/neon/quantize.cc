#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/quantize_impl.h"

namespace tiercel::kernels::neon {

void Quantize(const QuantizeArgs& args, Share share) { simd::Quantize<Simd>(args, share); }
void SwiGlu(const SwiGluArgs& args, Share share) { simd::SwiGlu<Simd>(args, share); }

}  // namespace tiercel::kernels::neon
