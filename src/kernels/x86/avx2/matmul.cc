// Matmul by FP32 FMA on BF16 pairs that are unpacked by shift and mask. Every output element is
// one chain of FMAs over k ascending (the same chain as avx512's FMA kernel), so its bits do not
// depend on the path or tile it is in.
#include "kernels/simd/fma_matmul_impl.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {

// Tiles of 6 rows × 2 vectors: 12 sums, 2 vectors of weights and a broadcast of the 16 registers; a k
// takes 6 cycles of two FMA ports and 4 of two load ports.
void Matmul(const MatmulArgs& args, Share share) {
  simd::Matmul<simd::FmaProduct<Simd, 6, 2, 18>>(args, share);
}

}  // namespace tiercel::kernels::avx2
