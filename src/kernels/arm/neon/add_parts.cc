#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/add_parts_impl.h"

namespace tiercel::kernels::neon {

void AddParts(const AddPartsArgs& args, Share share) { simd::AddParts<Simd>(args, share); }

}  // namespace tiercel::kernels::neon
