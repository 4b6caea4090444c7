#include "kernels/simd/epilogue_impl.h"
#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/amx/tile_matmul.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::amx {
namespace {

struct ByteDot {
  using Args = QuantMatmulArgs;
  using Sum = int32_t;
  static constexpr int64_t kElement = 1;
  // Tile c += tile a (unsigned activations) · tile b (signed weights).
  template <int c, int a, int b>
  [[gnu::always_inline]] static void Multiply() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width,
                        const Sum* sums) {
    simd::FinishRow<avx512::Simd>(args, row, column, width, sums);
  }
  [[gnu::always_inline]] static void AskForRow(const Args& args, int64_t row, int64_t column, int64_t width) {
    simd::AskForRow(args, row, column, width);
  }
};

// The rows of one register tile of vpdpbusd: for those it streams the weights with fewer stalls than
// tile loads do (measured: a tenth faster). Integer sums and one epilogue: the bits are the same.
constexpr int64_t kVectorRows = 6;

}  // namespace

void QuantMatmul(const QuantMatmulArgs& args, Share share) {
  if (args.rows <= kVectorRows) return avx512::QuantMatmul(args, share);
  TileMatmul<ByteDot>(args, share);
}

// As PeakMatmul.
int64_t PeakMatmulI8(int64_t iterations) {
  LoadTileConfig(kFullTiles);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < iterations; ++i) {
    ByteDot::Multiply<0, 4, 6>();
    ByteDot::Multiply<1, 4, 7>();
    ByteDot::Multiply<2, 5, 6>();
    ByteDot::Multiply<3, 5, 7>();
  }
  return iterations * 4 * 16 * 16 * 64 * 2;
}

}  // namespace tiercel::kernels::amx
