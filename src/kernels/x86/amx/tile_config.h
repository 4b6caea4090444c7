// The palette-1 tile configuration (Intel SDM, LDTILECFG), and the loads that GCC 12's intrinsics do
// not tell the compiler of: their asm does not say that it reads memory, so what was stored before
// could still be unwritten.
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

[[gnu::always_inline]] inline void LoadTileConfig(const TileConfig& config) {
  asm volatile("" ::"r"(&config) : "memory");
  _tile_loadconfig(&config);
}

// The tile register kTile from rows that are `stride` bytes apart. All that may lie behind `rows` is an
// operand that is read: this orders earlier stores to it, and no more, where a clobber of all memory
// would make the inner loops load what they hold in registers.
template <int kTile>
[[gnu::always_inline]] static inline void LoadTile(const void* rows, int64_t stride) {
  using All = const char[1 << 30];
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
               :
               : "r"(rows), "r"(stride), "i"(kTile), "m"(*static_cast<All*>(rows)));
}

}  // namespace tiercel::kernels::amx
