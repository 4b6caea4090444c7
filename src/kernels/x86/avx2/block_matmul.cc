// Block formats without VNNI. vpmaddubsw's sums of two products fit into 16 bits for codes of up to six bits and
// |x| ≤ 127 (2 · 63 · 127 = 16002); codes of eight bits are widened first, as W8A8's are.
#include "kernels/x86/avx2/blocks256.h"

namespace tiercel::kernels::avx2 {
namespace {

struct MaddBlocks : Blocks256 {
  template <int kBits>
  [[gnu::always_inline]] static I Dot(I sum, I codes, const int8_t* x) {
    const I quad = Quad(x);
    if constexpr (kBits < 8) {
      return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, quad), _mm256_set1_epi16(1)));
    } else {
      const I even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xff)),
                                       _mm256_srai_epi16(_mm256_slli_epi16(quad, 8), 8));
      const I odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(quad, 8));
      return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
    }
  }
};

}  // namespace

void BlockMatmul(const BlockMatmulArgs& args, Share share) { simd::BlockMatmul<MaddBlocks>(args, share); }

}  // namespace tiercel::kernels::avx2
