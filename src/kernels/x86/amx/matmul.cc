// BF16 matmul by tdpbf16ps.
#include "kernels/simd/epilogue_impl.h"
#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/amx/tile_matmul.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::amx {
namespace {

// Rounds to nearest even as StoreBF16 does, but subnormal results become 0.
[[gnu::always_inline]] inline void Narrow(BF16* p, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
}

struct PairDot {
  using Args = MatmulArgs;
  using Sum = float;
  static constexpr int64_t kElement = sizeof(BF16);
  // Tile c += tile a · tile b.
  template <int c, int a, int b>
  [[gnu::always_inline]] static void Multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width,
                        const Sum* sums) {
    simd::FinishRow<avx512::Simd, Narrow>(args, row, column, width, sums);
  }
  [[gnu::always_inline]] static void AskForRow(const Args& args, int64_t row, int64_t column, int64_t width) {
    simd::AskForRow(args, row, column, width);
  }
};

}  // namespace

void Matmul(const MatmulArgs& args, Share share) { TileMatmul<PairDot>(args, share); }

}  // namespace tiercel::kernels::amx
