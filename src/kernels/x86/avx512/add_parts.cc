#include "kernels/simd/add_parts_impl.h"

#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {

void AddParts(const AddPartsArgs& args, Share share) { simd::AddParts<Simd>(args, share); }

}  // namespace tiercel::kernels::avx512
