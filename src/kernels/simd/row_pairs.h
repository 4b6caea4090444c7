// Products that take two rows of x at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tiercel::kernels::simd {

// P is what a nest is written in.
template <typename P>
concept TakesPairs = requires { P::kTakesPairs; };

// Registers that hold something of so many rows. An odd last row of pairs is its own second one.
template <typename P>
constexpr int HeightOf(int rows) {
  return TakesPairs<P> ? (rows + 1) / 2 : rows;
}

// The first row of a tile. Nearly equal heights: 8 rows are 4 + 4, not 6 + 2. Pairs stay together: 10 rows are 4 + 6.
template <typename P>
int64_t TileBegin(int64_t tile, int64_t tiles, int64_t rows) {
  if constexpr (TakesPairs<P>) return std::min(rows, (rows + 1) / 2 * tile / tiles * 2);
  else return rows * tile / tiles;
}

}  // namespace tiercel::kernels::simd
