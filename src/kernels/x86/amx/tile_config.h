// The palette-1 tile configuration (Intel SDM, LDTILECFG) and how it is loaded.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace tiercel::kernels::amx {

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};

  friend bool operator==(const TileConfig&, const TileConfig&) = default;
};
static_assert(sizeof(TileConfig) == 64);

inline constexpr TileConfig kFullTiles;

// The barrier: the intrinsic's asm does not say that it reads all 64 bytes (GCC 12), so a
// configuration built on the stack could otherwise still be unwritten.
[[gnu::always_inline]] inline void LoadTileConfig(const TileConfig& config) {
  asm volatile("" ::"r"(&config) : "memory");
  _tile_loadconfig(&config);
}

}  // namespace tiercel::kernels::amx
