// W8A8 matmul by vpdpbusd (unsigned activations × signed weights, four products a lane), once for
// both vector widths. `D` is an ISA's dot product:
//   V                        a register of kLanes INT32 sums, one a column
//   kTileRows × kTileVectors the register tile for many rows
//   Zero, Load, Store, Broadcast (four bytes to every lane), Dot(sum, x, w), FinishRow.
// Integer sums are exact, so chunks, tiles and the number of rows cannot change a bit.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/ops.h"
#include "kernels/x86/stream_ahead.h"

namespace tiercel::kernels::x86 {

// Weights that are used more than once are kept in L1: k in chunks of 384, whose 64 columns are
// 24 KiB. Rows go in panels of 128 at most, whose sums between two chunks are 32 KiB of L2.
inline constexpr int64_t kVnniChunk = 384;
inline constexpr int64_t kVnniPanelRows = 128;
// One step over the weights is bound by memory: so far ahead in the stream it asks for more.
inline constexpr int64_t kVnniAhead = 4096;

struct VnniScratch {
  alignas(64) int32_t sums[kVnniPanelRows * kColumnBlock];  // [row][width]
};

// A tile's place: rows × at most one block of columns, over one chunk of k.
struct VnniTile {
  const uint8_t* x;   // its first row at the chunk's k
  int64_t ldx;        // bytes
  const int8_t* w;    // the weights of the tile's first column at the chunk's k
  int64_t w_stride;   // bytes from quad to quad: 4 times the block's width
  int64_t quads;      // of the chunk
  int32_t* sums;      // [rows][width]
  int64_t width;      // of the block
  bool first;         // the sums begin here
  StreamAhead<_MM_HINT_T1>* ahead;  // weights to ask for, evenly over the quads
  int64_t lines_per_quad;
};

template <typename D, int kRows, int kVectors>
[[gnu::noinline]] void DotTile(const VnniTile& tile) {
  using V = typename D::V;
  V sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = tile.first ? D::Zero() : D::Load(tile.sums + r * tile.width + v * D::kLanes);
    }
  }
  const uint8_t* x = tile.x;
  const int8_t* w = tile.w;
  StreamAhead<_MM_HINT_T1> ahead = *tile.ahead;
  const int64_t ldx = tile.ldx, w_stride = tile.w_stride, lines = tile.lines_per_quad;
  for (int64_t quad = 0; quad < tile.quads; ++quad, x += kQuad, w += w_stride) {
    V weights[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) weights[v] = D::Load(w + v * D::kLanes * kQuad);
    for (int64_t i = quad & 1; i < lines; i += 2) ahead.AskPair();
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V broadcast = D::Broadcast(x + r * ldx);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = D::Dot(sum[r][v], broadcast, weights[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      D::Store(tile.sums + r * tile.width + v * D::kLanes, sum[r][v]);
    }
  }
  *tile.ahead = ahead;
}

template <typename D, int kVectors>
void DotTileRows(int64_t rows, const VnniTile& tile) {
  static_assert(D::kTileRows == 6);
  switch (rows) {
    case 1: return DotTile<D, 1, kVectors>(tile);
    case 2: return DotTile<D, 2, kVectors>(tile);
    case 3: return DotTile<D, 3, kVectors>(tile);
    case 4: return DotTile<D, 4, kVectors>(tile);
    case 5: return DotTile<D, 5, kVectors>(tile);
    default: return DotTile<D, 6, kVectors>(tile);
  }
}

// All kGroups · 16 columns of a block for `rows` rows of one tile: as many vectors at a time as the
// registers hold.
template <typename D, int kGroups>
void DotRows(int64_t rows, VnniTile tile) {
  constexpr int kAll = kGroups * kColumnGroup / D::kLanes;
  constexpr int kVectors = std::min(kAll, D::kTileVectors);
  if (rows == 1) return DotTile<D, 1, kAll>(tile);
  for (int v = 0; v < kAll; v += kVectors) {
    DotTileRows<D, kVectors>(rows, tile);
    tile.w += kVectors * D::kLanes * kQuad;
    tile.sums += kVectors * D::kLanes;
  }
}

// The rows of one panel × one block of columns, whose weights begin at w.
template <typename D, int kGroups>
void PanelBlock(const QuantMatmulArgs& args, Range panel, int64_t column, const int8_t* w,
                VnniScratch& scratch) {
  constexpr int64_t kWidth = kGroups * kColumnGroup;
  constexpr int64_t kSubtiles =
      std::max<int64_t>(1, kWidth / (D::kTileVectors * D::kLanes));
  const int64_t k_padded = args.weight->k_padded;
  const int64_t tiles = (panel.size() + D::kTileRows - 1) / D::kTileRows;
  // How often the weights are walked over: more than once, in chunks.
  const int64_t steps = panel.size() == 1 ? 1 : tiles * kSubtiles;
  const int64_t lines_per_step = (kGroups + steps - 1) / steps;
  const int64_t chunk = steps == 1 ? k_padded : kVnniChunk;
  // The chunk that follows comes in over this one's first steps, a single step's own stream ahead of
  // it.
  StreamAhead<_MM_HINT_T1> ahead(w + (steps == 1 ? kVnniAhead : chunk * kWidth));
  VnniTile tile;
  tile.ahead = &ahead;
  tile.ldx = args.ldx;
  tile.w_stride = kWidth * kQuad;
  tile.width = kWidth;
  for (int64_t k = 0; k < k_padded; k += chunk) {
    const int64_t k_count = std::min(chunk, k_padded - k);
    tile.w = w + k * kWidth;
    tile.quads = k_count / kQuad;
    tile.first = k == 0;
    int64_t lines = kGroups;
    for (int64_t i = 0; i < tiles; ++i) {
      // Nearly equal heights: 8 rows are 4 + 4, not 6 + 2.
      const int64_t first = panel.size() * i / tiles;
      const int64_t rows = panel.size() * (i + 1) / tiles - first;
      tile.x = args.x + (panel.begin + first) * args.ldx + k;
      tile.sums = scratch.sums + first * kWidth;
      tile.lines_per_quad = lines > 0 ? lines_per_step : 0;
      DotRows<D, kGroups>(rows, tile);
      lines -= lines_per_step * (rows == 1 ? 1 : kSubtiles);
    }
  }
  for (int64_t r = 0; r < panel.size(); ++r) {
    D::FinishRow(args, panel.begin + r, column, kWidth, scratch.sums + r * kWidth);
  }
}

template <typename D>
void VnniMatmul(const QuantMatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  VnniScratch scratch;  // 32 KiB of stack
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const int8_t* w = static_cast<const int8_t*>(weight.data) + column * weight.k_padded;
    for (int64_t row = 0; row < args.rows; row += kVnniPanelRows) {
      const Range panel = {row, std::min(args.rows, row + kVnniPanelRows)};
      switch (std::min(kColumnBlock, range.end - column) / kColumnGroup) {
        case 1: PanelBlock<D, 1>(args, panel, column, w, scratch); break;
        case 2: PanelBlock<D, 2>(args, panel, column, w, scratch); break;
        case 3: PanelBlock<D, 3>(args, panel, column, w, scratch); break;
        default: PanelBlock<D, 4>(args, panel, column, w, scratch); break;
      }
    }
  }
}

}  // namespace tiercel::kernels::x86
