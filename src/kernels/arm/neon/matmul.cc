// Matmul by FP32 FMA on BF16 pairs that are unpacked by shift and mask. Every output element is one chain of FMAs over k
// ascending (the same chain as avx2's and avx512's), so its bits do not depend on the path or tile it is in.
#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/fma_matmul_impl.h"

namespace tiercel::kernels::neon {

// Tiles of 6 rows × 16 columns: 24 sums, 4 registers of weights and a broadcast of the 32.
void Matmul(const MatmulArgs& args, Share share) { simd::Matmul<simd::FmaProduct<Simd, 6, 2, 18>>(args, share); }

}  // namespace tiercel::kernels::neon
