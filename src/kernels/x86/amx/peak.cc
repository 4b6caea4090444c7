#include <immintrin.h>

#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/amx/tile_config.h"

namespace tiercel::kernels::amx {

// Four accumulator tiles cover the latency of 52 cycles at one tile product per 16 cycles.
int64_t PeakMatmul(int64_t iterations) {
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
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  return iterations * 4 * 16 * 16 * 32 * 2;
}

}  // namespace tiercel::kernels::amx
