#include "kernels/simd/fp8_fma_impl.h"
#include "kernels/simd/fp8_matmul_impl.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {
namespace {

struct Fp8Lanes : simd::Fp8Fma<Simd> {
  static constexpr int kTileRows = 24;  // sums of 32 registers
  static constexpr int kParts = 2;
  static constexpr int Units(int rows) { return rows <= 2 ? 4 : rows < 8 ? 2 : 1; }
  // Two lines are widened together: the sign is copied upwards, then shifted into its place and its copy cleared.
  [[gnu::always_inline]] static void Decode(const uint8_t* p, W (&w)[kParts][1]) {
    const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    const __m512i halfs =
        _mm512_and_si512(_mm512_slli_epi16(wide, 7), _mm512_set1_epi16(static_cast<int16_t>(0xbfff)));
    w[0][0] = _mm512_cvtph_ps(_mm512_castsi512_si256(halfs));
    w[1][0] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halfs, 1));
  }
};

}  // namespace

void Fp8Matmul(const MatmulArgs& args, Share share) { simd::Fp8Matmul<Fp8Lanes>(args, share); }

}  // namespace tiercel::kernels::avx512
