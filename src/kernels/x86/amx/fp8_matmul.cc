// FP8 by tdpbf16ps, of BF16 that vpermi2b makes.
#include "kernels/x86/amx/fp8_tiles.h"
#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/amx/tile_config.h"

namespace tiercel::kernels::amx {
namespace {

struct TileRegisters {
  template <int c>
  [[gnu::always_inline]] static void Zero() { asm volatile("tilezero %%tmm%c0" ::"i"(c)); }
  template <int t>
  [[gnu::always_inline]] static void Load(const void* p, int64_t stride) { LoadTile<t>(p, stride); }
  // Tile c += tile a · tile b.
  template <int c, int a, int b>
  [[gnu::always_inline]] static void Multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
  template <int c>
  [[gnu::always_inline]] static void Store(void* p, int64_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(c), "r"(p), "r"(stride) : "memory");
  }
};

}  // namespace

void Fp8Matmul(const MatmulArgs& args, Share share) {
  using Tiles = Fp8Tiles<TileRegisters>;
  if (args.rows >= Tiles::kRows) return simd::Fp8Matmul<Tiles>(args, share);
  if (args.rows == 0) return;
  TileConfig config;
  for (int tile : {0, 1, 2, 3, 4, 6}) config.rows[tile] = static_cast<uint8_t>(args.rows);  // sums and inputs
  LoadTileConfig(config);
  simd::Fp8Matmul<Tiles>(args, share);
  LoadTileConfig(kFullTiles);
}

}  // namespace tiercel::kernels::amx
