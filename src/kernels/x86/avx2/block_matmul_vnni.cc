#include "kernels/x86/avx2/blocks256.h"

namespace tiercel::kernels::avx2 {
namespace {

struct VnniBlocks : Blocks256 {
  template <int kBits>
  static I Dot(I sum, I codes, const int8_t* x) {
    return _mm256_dpbusd_avx_epi32(sum, codes, Quad(x));
  }
};

}  // namespace

void BlockMatmulVnni(const BlockMatmulArgs& args, Share share) { simd::BlockMatmul<VnniBlocks>(args, share); }

}  // namespace tiercel::kernels::avx2
