// Matmul by instructions that multiply four bytes a lane, a quad of INT8 or a pair of BF16, and add the products
// to a 32-bit sum: once for all of them. `D` is such a product:
//   Args                     MatmulArgs or QuantMatmulArgs
//   Sum                      int32_t or float
//   V, W                     registers of kLanes sums, one a column, and of their four bytes each
//   kTileRows × kTileVectors the register tile for many rows
//   Chunk(steps)             bytes of k that all rows take, in so many steps over the weights, before the next ones
//   Zero, Load, Store: of sums;  LoadWeights, Broadcast (four bytes to every lane), Dot(sum, x, w), FinishRow
// Every output element is one chain of Dot over k ascending, whose sum is kept as it is between two chunks: neither
// chunks nor tiles nor the number of rows change a bit.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/ops.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::simd {

inline constexpr int64_t kLaneBytes = 4;
// Rows go in panels, whose sums between two chunks are 32 KiB of L2.
inline constexpr int64_t kDotPanelRows = 128;
// One step over the weights is bound by memory: so far ahead in the stream it asks for more.
inline constexpr int64_t kDotAhead = 4096;

template <typename Sum>
struct DotScratch {
  alignas(64) Sum sums[kDotPanelRows * kColumnBlock];  // [row][width]
};

// A tile's place: rows × at most one block of columns, over one chunk of k.
template <typename Sum>
struct DotPlace {
  const char* x;     // its first row at the chunk's k
  int64_t ldx;       // bytes
  const char* w;     // the weights of the tile's first column at the chunk's k
  int64_t w_stride;  // bytes from four bytes of k to the next: 4 times the block's width
  int64_t fours;     // of the chunk
  Sum* sums;         // [rows][width]
  int64_t width;     // of the block
  bool first;        // the sums begin here
  StreamAhead<kToL2>* ahead;  // weights to ask for, evenly over the chunk
  int64_t lines;                    // for each four bytes of k
};

template <typename D, int kRows, int kVectors>
[[gnu::noinline]] void DotTile(const DotPlace<typename D::Sum>& place) {
  using V = typename D::V;
  V sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = place.first ? D::Zero() : D::Load(place.sums + r * place.width + v * D::kLanes);
    }
  }
  const char* x = place.x;
  const char* w = place.w;
  StreamAhead<kToL2> ahead = *place.ahead;
  const int64_t ldx = place.ldx, w_stride = place.w_stride, lines = place.lines;
  for (int64_t i = 0; i < place.fours; ++i, x += kLaneBytes, w += w_stride) {
    typename D::W weights[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) weights[v] = D::LoadWeights(w + v * D::kLanes * kLaneBytes);
    for (int64_t line = i & 1; line < lines; line += 2) ahead.AskPair();
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const typename D::W broadcast = D::Broadcast(x + r * ldx);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = D::Dot(sum[r][v], broadcast, weights[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) D::Store(place.sums + r * place.width + v * D::kLanes, sum[r][v]);
  }
  *place.ahead = ahead;
}

template <typename D, int kVectors>
void DotTileRows(int64_t rows, const DotPlace<typename D::Sum>& place) {
  static_assert(D::kTileRows == 6);
  switch (rows) {
    case 1: return DotTile<D, 1, kVectors>(place);
    case 2: return DotTile<D, 2, kVectors>(place);
    case 3: return DotTile<D, 3, kVectors>(place);
    case 4: return DotTile<D, 4, kVectors>(place);
    case 5: return DotTile<D, 5, kVectors>(place);
    default: return DotTile<D, 6, kVectors>(place);
  }
}

// All kGroups · 16 columns of a block for `rows` rows of one tile: as many vectors at a time as the
// registers hold.
template <typename D, int kGroups>
void DotRows(int64_t rows, DotPlace<typename D::Sum> place) {
  constexpr int kAll = kGroups * kColumnGroup / D::kLanes;
  constexpr int kVectors = std::min(kAll, D::kTileVectors);
  if (rows == 1) return DotTile<D, 1, kAll>(place);
  for (int v = 0; v < kAll; v += kVectors) {
    DotTileRows<D, kVectors>(rows, place);
    place.w += kVectors * D::kLanes * kLaneBytes;
    place.sums += kVectors * D::kLanes;
  }
}

// The rows of one panel × one block of columns, whose weights begin at w.
template <typename D, int kGroups>
void DotPanel(const typename D::Args& args, Range panel, int64_t column, const char* w,
              DotScratch<typename D::Sum>& scratch) {
  constexpr int64_t kWidth = kGroups * kColumnGroup;
  constexpr int64_t kSubtiles =
      std::max<int64_t>(1, kWidth / (D::kTileVectors * D::kLanes));
  constexpr int64_t kElement = sizeof(*args.x);  // x and the weights are as wide
  const int64_t k_bytes = args.weight->k_padded * kElement;
  const int64_t tiles = (panel.size() + D::kTileRows - 1) / D::kTileRows;
  // How often the weights are walked over: more than once, in chunks.
  const int64_t steps = panel.size() == 1 ? 1 : tiles * kSubtiles;
  const int64_t lines_per_step = (kGroups + steps - 1) / steps;
  const int64_t chunk = steps == 1 ? k_bytes : D::Chunk(steps);
  // The chunk that follows comes in over this one's first steps, a single step's own stream ahead of
  // it.
  StreamAhead<kToL2> ahead(w + (steps == 1 ? kDotAhead : chunk * kWidth));
  DotPlace<typename D::Sum> place;
  place.ahead = &ahead;
  place.ldx = args.ldx * kElement;
  place.w_stride = kWidth * kLaneBytes;
  place.width = kWidth;
  for (int64_t k = 0; k < k_bytes; k += chunk) {
    const int64_t count = std::min(chunk, k_bytes - k);
    place.w = w + k * kWidth;
    place.fours = count / kLaneBytes;
    place.first = k == 0;
    int64_t lines = kGroups;
    for (int64_t i = 0; i < tiles; ++i) {
      // Nearly equal heights: 8 rows are 4 + 4, not 6 + 2.
      const int64_t first = panel.size() * i / tiles;
      const int64_t rows = panel.size() * (i + 1) / tiles - first;
      place.x = reinterpret_cast<const char*>(args.x) + (panel.begin + first) * place.ldx + k;
      place.sums = scratch.sums + first * kWidth;
      place.lines = lines > 0 ? lines_per_step : 0;
      DotRows<D, kGroups>(rows, place);
      lines -= lines_per_step * (rows == 1 ? 1 : kSubtiles);
    }
  }
  for (int64_t r = 0; r < panel.size(); ++r) {
    D::FinishRow(args, panel.begin + r, column, kWidth, scratch.sums + r * kWidth);
  }
}

template <typename D>
void DotMatmul(const typename D::Args& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  DotScratch<typename D::Sum> scratch;  // 32 KiB of stack
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const char* w = static_cast<const char*>(weight.data) + weight.Offset(column);
    for (int64_t row = 0; row < args.rows; row += kDotPanelRows) {
      const Range panel = {row, std::min(args.rows, row + kDotPanelRows)};
      switch (std::min(kColumnBlock, range.end - column) / kColumnGroup) {
        case 1: DotPanel<D, 1>(args, panel, column, w, scratch); break;
        case 2: DotPanel<D, 2>(args, panel, column, w, scratch); break;
        case 3: DotPanel<D, 3>(args, panel, column, w, scratch); break;
        default: DotPanel<D, 4>(args, panel, column, w, scratch); break;
      }
    }
  }
}

}  // namespace tiercel::kernels::simd
