#include "kernels/simd/fp8_fma_impl.h"
#include "kernels/simd/fp8_matmul_impl.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {
namespace {

struct Fp8Lanes : simd::Fp8Fma<Simd> {
  static constexpr int kTileRows = 5;  // 10 sums of 16 registers
  static constexpr int kParts = 1;
  static constexpr int Units(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
  // The sign is copied upwards, then shifted into its place and its copy cleared.
  [[gnu::always_inline]] static void Decode(const uint8_t* p, W (&w)[kParts][2]) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i halfs =
        _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(static_cast<int16_t>(0xbfff)));
    w[0][0] = _mm256_cvtph_ps(_mm256_castsi256_si128(halfs));
    w[0][1] = _mm256_cvtph_ps(_mm256_extracti128_si256(halfs, 1));
  }
};

}  // namespace

void Fp8Matmul(const MatmulArgs& args, Share share) { simd::Fp8Matmul<Fp8Lanes>(args, share); }

}  // namespace tiercel::kernels::avx2
