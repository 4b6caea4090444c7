#include "kernels/simd/add_parts_impl.h"

#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {

void AddParts(const AddPartsArgs& args, Share share) { simd::AddParts<Simd>(args, share); }

}  // namespace tiercel::kernels::avx2
