// Matmul by FP32 FMA on BF16 pairs that are unpacked by shift and mask. Every output element is
// one chain of FMAs over k ascending, so its bits do not depend on the path or tile it is in.
#include "kernels/simd/fma_matmul_impl.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {

// Tiles of 12 rows × 2 vectors: 24 sums, 2 vectors of weights and a broadcast of the 32 registers; a k
// takes 12 cycles of two FMA ports and 7 of two load ports.
void Matmul(const MatmulArgs& args, Share share) {
  simd::Matmul<simd::FmaProduct<Simd, 12, 2, 24>>(args, share);
}

}  // namespace tiercel::kernels::avx512
