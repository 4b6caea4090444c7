#include <immintrin.h>

#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/amx/tile_config.h"

namespace tiercel::kernels::amx {

void InitThread() { LoadTileConfig(kFullTiles); }

}  // namespace tiercel::kernels::amx
