// Matmul in tile registers, once for BF16 and INT8: C[16 rows × 16 columns] += A[16 × 64 bytes of k] ·
// B[64 bytes of k × 16], A straight from the row-major activations, B straight from the packed
// weights. Both types put four bytes of k in a lane, so all but the instruction is the same when k is
// counted in bytes. Every output element is one chain of tile products over k ascending. Where the
// chain is interrupted, its FP32 or INT32 sums are stored and loaded again unchanged, so an
// element's bits depend on nothing but its row and its column.
//
// `Dot` is a type's product: Args, Sum, kElement (bytes), Multiply<c, a, b>() on tile registers, and
// FinishRow(args, row, column, width, const Sum*).
#pragma once

#include <immintrin.h>

#include <algorithm>

#include "kernels/ops.h"
#include "kernels/x86/amx/tile_config.h"
#include "kernels/x86/stream_ahead.h"

namespace tiercel::kernels::amx {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 16;
constexpr int64_t kTileBytes = 64;  // of k
constexpr int64_t kLaneBytes = 4;   // of k in one column of a row of B

// What the kernel needs of a call, with bytes for elements.
struct Operands {
  const uint8_t* x;
  int64_t x_stride;
  const uint8_t* w;
  int64_t k;  // bytes of a row or column
  int64_t rows;
  Range columns;  // of this worker
};

// Blocking for more rows. A step of 2 × 2 tiles takes 64 cycles, in which L2 gives
// about 29 lines, and loads 64. So:
// - k in chunks of 384 bytes: 64 columns of weights (24 KiB) stay in L1 while all rows go by, and 32 rows
//   of activations (12 KiB) stay there for the two halves of the columns. With the sums going in
//   and out that is 9 lines from L2 per tile product of 16 cycles;
// - rows in panels of 512, columns in bands of 256: 192 KiB of activations, 96 KiB of weights and
//   512 KiB of sums per chunk of k share a 1 to 2 MiB L2, however large k is. Weights are read from
//   memory once a panel (512 FLOP a byte), activations from L3 once a band (256 FLOP a byte), each
//   below what a core can fetch at 3.5 TFLOP/s.
constexpr int64_t kChunk = 384;
constexpr int64_t kPanelRows = 512;
constexpr int64_t kBandColumns = 256;
constexpr int64_t kSlotRows = 2 * kTileRows;
constexpr int64_t kSlotColumns = 2 * kTileColumns;
constexpr int64_t kSlotSums = kSlotRows * kSlotColumns;
constexpr int64_t kSlots = kPanelRows / kSlotRows;
constexpr int64_t kSteps = kChunk / kTileBytes;
// So many of a slot's 32 rows are asked for at each step.
constexpr int64_t kRowsPerStep = (kSlotRows + kSteps - 1) / kSteps;

// At most 16 rows × one packed block: the weights are read as one linear stream.
template <typename Dot, int kGroups>
void RowTile(const typename Dot::Args& args, const Operands& operands, int64_t column) {
  constexpr int64_t kWidth = kGroups * kTileColumns;
  constexpr int64_t kStride = kWidth * kLaneBytes;
  // A tile load is too long to let the core look far ahead in the stream by itself.
  constexpr int64_t kAhead = 8192;
  const uint8_t* w = operands.w + column * operands.k;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  x86::StreamAhead<_MM_HINT_T0> ahead(w + kAhead);
  for (int64_t k = 0; k < operands.k; k += kTileBytes, w += kTileRows * kStride) {
    for (int64_t i = 0; i < kStride * kTileRows; i += 2 * x86::kLine) ahead.AskPair();
    LoadTile<4>(operands.x + k, operands.x_stride);
    LoadTile<5>(w, kStride);
    Dot::template Multiply<0, 4, 5>();
    if constexpr (kGroups > 1) {
      LoadTile<6>(w + kTileBytes, kStride);
      Dot::template Multiply<1, 4, 6>();
    }
    if constexpr (kGroups > 2) {
      LoadTile<7>(w + 2 * kTileBytes, kStride);
      Dot::template Multiply<2, 4, 7>();
    }
    if constexpr (kGroups > 3) {
      LoadTile<5>(w + 3 * kTileBytes, kStride);
      Dot::template Multiply<3, 4, 5>();
    }
  }
  alignas(64) typename Dot::Sum sums[kTileRows * kWidth];
  _tile_stored(0, sums, kWidth * sizeof(*sums));
  if constexpr (kGroups > 1) _tile_stored(1, sums + 16, kWidth * sizeof(*sums));
  if constexpr (kGroups > 2) _tile_stored(2, sums + 32, kWidth * sizeof(*sums));
  if constexpr (kGroups > 3) _tile_stored(3, sums + 48, kWidth * sizeof(*sums));
  for (int64_t r = 0; r < operands.rows; ++r) {
    Dot::FinishRow(args, r, column, kWidth, sums + r * kWidth);
  }
}

template <typename Dot>
void FewRows(const typename Dot::Args& args, const Operands& operands) {
  TileConfig config;
  for (int tile = 0; tile <= 4; ++tile) config.rows[tile] = static_cast<uint8_t>(args.rows);
  LoadTileConfig(config);
  const Range columns = operands.columns;
  for (int64_t column = columns.begin; column < columns.end; column += kColumnBlock) {
    switch (std::min(kColumnBlock, columns.end - column) / kTileColumns) {
      case 1: RowTile<Dot, 1>(args, operands, column); break;
      case 2: RowTile<Dot, 2>(args, operands, column); break;
      case 3: RowTile<Dot, 3>(args, operands, column); break;
      default: RowTile<Dot, 4>(args, operands, column); break;
    }
  }
  LoadTileConfig(kFullTiles);
}

// Blocking for up to 96 rows. Reading the weights takes longer than everything else, if they pass
// through the core once, as one linear stream. A line on its way from memory delays the loads from
// L2 behind it (measured: the times add up), so the sums of all rows × one packed block stay in L1
// (96 rows: 24 KiB) while k goes by in chunks of 128 bytes: 8 KiB of weights, in L1 for all tiles.
constexpr int64_t kBlockRows = 96;
constexpr int64_t kBlockChunk = 128;

// Adds a chunk of k to the sums [row][column of the block] of kTiles tiles of rows, from x0 and x1
// on, × kGroups tiles of columns. Asks for `pairs` of lines at each step.
template <typename Dot, int kTiles, int kGroups>
[[gnu::always_inline]] inline void BlockTile(const uint8_t* x0, const uint8_t* x1,
                                             int64_t x_stride, const uint8_t* w, int64_t width,
                                             int64_t k_count, bool first, typename Dot::Sum* sums,
                                             x86::StreamAhead<_MM_HINT_T1>* ahead,
                                             int64_t pairs) {
  constexpr int64_t kStride = kColumnBlock * sizeof(*sums);
  typename Dot::Sum* const sums1 = sums + kTileRows * kColumnBlock;
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    LoadTile<0>(sums, kStride);
    if constexpr (kTiles == 2) LoadTile<1>(sums1, kStride);
    if constexpr (kGroups == 2) LoadTile<2>(sums + kTileColumns, kStride);
    if constexpr (kTiles == 2 && kGroups == 2) LoadTile<3>(sums1 + kTileColumns, kStride);
  }
  const int64_t w_stride = width * kLaneBytes;
  for (int64_t k = 0; k < k_count; k += kTileBytes, w += kTileRows * w_stride) {
    LoadTile<6>(w, w_stride);
    LoadTile<4>(x0 + k, x_stride);
    Dot::template Multiply<0, 4, 6>();
    if constexpr (kTiles == 2) {
      LoadTile<5>(x1 + k, x_stride);
      Dot::template Multiply<1, 5, 6>();
    }
    if constexpr (kGroups == 2) {
      LoadTile<7>(w + kTileBytes, w_stride);
      Dot::template Multiply<2, 4, 7>();
      if constexpr (kTiles == 2) Dot::template Multiply<3, 5, 7>();
    }
    for (int64_t i = 0; i < pairs; ++i) ahead->AskPair();
  }
  _tile_stored(0, sums, kStride);
  if constexpr (kTiles == 2) _tile_stored(1, sums1, kStride);
  if constexpr (kGroups == 2) _tile_stored(2, sums + kTileColumns, kStride);
  if constexpr (kTiles == 2 && kGroups == 2) _tile_stored(3, sums1 + kTileColumns, kStride);
}

// All rows × the packed block of `width` columns at `column`. The last tile of rows begins so that
// it is whole, if need be over rows of the tile before it: it needs no other tile configuration.
template <typename Dot>
void RowBlock(const typename Dot::Args& args, const Operands& operands, int64_t column,
              int64_t width, typename Dot::Sum* sums) {
  // Far enough to hide the memory's latency (measured: 8 KiB reach 0.96 of it).
  constexpr int64_t kAhead = 24 << 10;
  const int64_t tiles = (operands.rows + kTileRows - 1) / kTileRows;
  const auto first_row = [&](int64_t tile) {
    return std::min(tile * kTileRows, operands.rows - kTileRows);
  };
  const uint8_t* w = operands.w + column * operands.k;
  x86::StreamAhead<_MM_HINT_T1> ahead(w + kAhead);
  const int64_t passes = (tiles + 1) / 2 * ((width + 2 * kTileColumns - 1) / (2 * kTileColumns));
  const int64_t pairs = (width * kTileBytes / (2 * x86::kLine) + passes - 1) / passes;
  for (int64_t k = 0; k < operands.k; k += kBlockChunk, w += kBlockChunk * width) {
    const int64_t count = std::min(kBlockChunk, operands.k - k);
    for (int64_t c = 0; c < width; c += 2 * kTileColumns) {
      for (int64_t tile = 0; tile < tiles; tile += 2) {
        const uint8_t* x0 = operands.x + first_row(tile) * operands.x_stride + k;
        const uint8_t* x1 =
            operands.x + first_row(std::min(tile + 1, tiles - 1)) * operands.x_stride + k;
        typename Dot::Sum* at = sums + tile * kTileRows * kColumnBlock + c;
        const auto add = [&]<int kTiles, int kGroups>() {
          BlockTile<Dot, kTiles, kGroups>(x0, x1, operands.x_stride, w + c * kLaneBytes, width,
                                          count, k == 0, at, &ahead, pairs);
        };
        if (width - c > kTileColumns) {
          tile + 1 < tiles ? add.template operator()<2, 2>() : add.template operator()<1, 2>();
        } else {
          tile + 1 < tiles ? add.template operator()<2, 1>() : add.template operator()<1, 1>();
        }
      }
    }
  }
  for (int64_t row = 0; row < operands.rows; ++row) {
    const int64_t tile = row / kTileRows;
    Dot::FinishRow(args, row, column, width,
                   sums + (tile * kTileRows + row - first_row(tile)) * kColumnBlock);
  }
}

template <typename Dot>
void BlockRows(const typename Dot::Args& args, const Operands& operands) {
  alignas(64) typename Dot::Sum sums[kBlockRows * kColumnBlock];
  const Range columns = operands.columns;
  for (int64_t column = columns.begin; column < columns.end; column += kColumnBlock) {
    RowBlock<Dot>(args, operands, column, std::min(kColumnBlock, columns.end - column), sums);
  }
}

// One or two tiles of rows that are computed together. The last ones of a call may begin before
// `fresh`, over rows that others compute too: whole tiles need no other tile configuration.
struct RowGroup {
  int tiles = 0;
  int64_t first[2] = {};  // the first row of each tile
  int64_t fresh[2] = {};  // the first row of each tile that is stored
};

RowGroup GroupAt(int64_t row, int64_t end) {
  const int64_t left = end - row;
  if (left <= kTileRows) return {1, {std::max(int64_t{0}, end - kTileRows), 0}, {row, 0}};
  const int64_t first = std::max(int64_t{0}, std::min(row, end - kSlotRows));
  const int64_t second = std::min(row + kTileRows, end - kTileRows);
  return {2, {first, second}, {row, std::max(row, first + kTileRows)}};
}

// Applies the epilogue to a row group whose sums are complete.
template <typename Dot>
void FinishSlot(const typename Dot::Args& args, const RowGroup& group, int64_t column,
                int64_t width, const typename Dot::Sum* slot) {
  for (int tile = 0; tile < group.tiles; ++tile) {
    const int64_t first = group.first[tile];
    for (int64_t row = group.fresh[tile]; row < first + kTileRows; ++row) {
      Dot::FinishRow(args, row, column, width,
                     slot + (tile * kTileRows + row - first) * kSlotColumns);
    }
  }
}

// What the tiles of one chunk of k × at most 32 columns have in common.
struct Chunk {
  const uint8_t* w;   // the first lane of k at the first column
  int64_t w_stride;   // from lane to lane of k
  int64_t w_step;     // from k step to k step
  int64_t x_stride;   // from row to row
  int64_t k_count;
  bool first;         // the sums begin here
  // What will be read after this chunk is asked for evenly over its k steps: weights, and of the
  // activations at x + x_ahead bytes `x_lines` lines of each row (0: none).
  const char* next;
  int64_t lines_per_step;
  int64_t x_ahead;
  int64_t x_lines;
};

// Adds the chunk to the sums (a slot) of a row group × kGroups tiles of columns. x0, x1: the
// group's rows at the chunk's k.
template <typename Dot, int kTiles, int kGroups>
[[gnu::noinline]] void ChunkTile(Chunk& chunk, const uint8_t* x0, const uint8_t* x1,
                                 typename Dot::Sum* slot) {
  constexpr int64_t kStride = kSlotColumns * sizeof(*slot);
  typename Dot::Sum* const slot1 = slot + kTileRows * kSlotColumns;
  if (chunk.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    LoadTile<0>(slot, kStride);
    if constexpr (kTiles == 2) LoadTile<1>(slot1, kStride);
    if constexpr (kGroups == 2) LoadTile<2>(slot + kTileColumns, kStride);
    if constexpr (kTiles == 2 && kGroups == 2) LoadTile<3>(slot1 + kTileColumns, kStride);
  }
  const uint8_t* w = chunk.w;
  const char* next = chunk.next;
  const int64_t lines = chunk.lines_per_step;
  const char* next_x = reinterpret_cast<const char*>(x0) + chunk.x_ahead;
  for (int64_t k = 0; k < chunk.k_count; k += kTileBytes, w += chunk.w_step) {
    LoadTile<6>(w, chunk.w_stride);
    LoadTile<4>(x0 + k, chunk.x_stride);
    Dot::template Multiply<0, 4, 6>();
    if constexpr (kTiles == 2) {
      LoadTile<5>(x1 + k, chunk.x_stride);
      Dot::template Multiply<1, 5, 6>();
    }
    if constexpr (kGroups == 2) {
      LoadTile<7>(w + kTileBytes, chunk.w_stride);
      Dot::template Multiply<2, 4, 7>();
      if constexpr (kTiles == 2) Dot::template Multiply<3, 5, 7>();
    }
    for (int64_t i = 0; i < lines; ++i, next += 64) _mm_prefetch(next, _MM_HINT_T1);
    for (int64_t i = 0; i < chunk.x_lines; ++i) {
      for (int r = 0; r < kRowsPerStep; ++r) {
        _mm_prefetch(next_x + r * chunk.x_stride + i * 64, _MM_HINT_T1);
      }
    }
    next_x += kRowsPerStep * chunk.x_stride;
  }
  chunk.next = next;
  _tile_stored(0, slot, kStride);
  if constexpr (kTiles == 2) _tile_stored(1, slot1, kStride);
  if constexpr (kGroups == 2) _tile_stored(2, slot + kTileColumns, kStride);
  if constexpr (kTiles == 2 && kGroups == 2) _tile_stored(3, slot1 + kTileColumns, kStride);
}

// One chunk of k, from `k` on, for all rows of a panel × one block of columns, whose slots begin
// at `slots`, one array per 32 columns.
template <typename Dot>
void ChunkBlock(const typename Dot::Args& args, const Operands& operands, Range rows,
                int64_t column, int64_t width, const uint8_t* w, int64_t k, Chunk& chunk,
                typename Dot::Sum (*slots)[kSlots * kSlotSums]) {
  const bool last = k + chunk.k_count == operands.k;
  const int64_t x_ahead = chunk.x_ahead;
  int64_t offset = 0;
  for (int64_t row = rows.begin; row < rows.end; row += kSlotRows, offset += kSlotSums) {
    const RowGroup group = GroupAt(row, rows.end);
    const uint8_t* x0 = operands.x + group.first[0] * operands.x_stride + k;
    const uint8_t* x1 = operands.x + group.first[1] * operands.x_stride + k;
    for (int64_t c = 0; c < width; c += kSlotColumns) {
      const int64_t columns = std::min(kSlotColumns, width - c);
      typename Dot::Sum* slot = slots[c / kSlotColumns] + offset;
      chunk.w = w + c * kLaneBytes;
      chunk.x_ahead = x_ahead + c / kSlotColumns * chunk.x_lines * 64;
      if (group.tiles == 2) {
        columns == kSlotColumns ? ChunkTile<Dot, 2, 2>(chunk, x0, x1, slot)
                                : ChunkTile<Dot, 2, 1>(chunk, x0, x1, slot);
      } else {
        columns == kSlotColumns ? ChunkTile<Dot, 1, 2>(chunk, x0, x1, slot)
                                : ChunkTile<Dot, 1, 1>(chunk, x0, x1, slot);
      }
      if (last) FinishSlot<Dot>(args, group, column + c, columns, slot);
    }
  }
}

template <typename Dot>
struct Scratch {
  alignas(64) typename Dot::Sum slots[kBandColumns / kSlotColumns][kSlots * kSlotSums];  // 512 KiB
};

// All of k for the rows of a panel × the columns of a band, which are whole blocks of the
// worker's `range`.
template <typename Dot>
void PanelBand(const typename Dot::Args& args, const Operands& operands, Range rows, Range band,
               Scratch<Dot>& scratch) {
  const int64_t k_end = operands.k;
  const Range range = operands.columns;
  const int64_t groups = (rows.size() + kSlotRows - 1) / kSlotRows;
  const auto width_at = [&](int64_t column) { return std::min(kColumnBlock, range.end - column); };
  const auto chunk_at = [&](int64_t column, int64_t k) {
    return operands.w + column * k_end + k * width_at(column);
  };
  Chunk chunk;
  for (int64_t k = 0; k < k_end; k += kChunk) {
    chunk.k_count = std::min(kChunk, k_end - k);
    chunk.x_stride = operands.x_stride;
    chunk.first = k == 0;
    // The activations of the next chunk of k (at the band's end the first again), a few lines of
    // each row in each pass over the rows.
    const int64_t passes = (band.size() + kSlotColumns - 1) / kSlotColumns;
    chunk.x_lines = (kSteps + passes - 1) / passes;
    const int64_t x_ahead = k + kChunk < k_end ? kChunk : -k;
    for (int64_t column = band.begin; column < band.end; column += kColumnBlock) {
      // What comes next in this order; past the range's end it is this chunk again, harmlessly.
      const uint8_t* const w = chunk_at(column, k);
      const uint8_t* next = w;
      if (column + kColumnBlock < band.end) {
        next = chunk_at(column + kColumnBlock, k);
      } else if (k + kChunk < k_end) {
        next = chunk_at(band.begin, k + kChunk);
      } else if (band.end < range.end) {
        next = chunk_at(band.end, 0);
      }
      const int64_t width = width_at(column);
      const int64_t steps = groups * (chunk.k_count / kTileBytes) *
                            ((width + kSlotColumns - 1) / kSlotColumns);
      const int64_t lines = chunk.k_count * width / 64;
      chunk.next = reinterpret_cast<const char*>(next);
      chunk.lines_per_step = (lines + steps - 1) / steps;
      chunk.w_stride = width * kLaneBytes;
      chunk.w_step = width * kTileBytes;
      const int64_t pass = (column - band.begin) / kSlotColumns;
      chunk.x_ahead = x_ahead + pass * chunk.x_lines * 64;
      ChunkBlock<Dot>(args, operands, rows, column, width, w, k, chunk, &scratch.slots[pass]);
    }
  }
}

template <typename Dot>
void TileMatmul(const typename Dot::Args& args, Share share) {
  const Range range = args.weight->ColumnRange(share.index);
  if (args.rows == 0 || range.size() == 0) return;
  const Operands operands = {.x = reinterpret_cast<const uint8_t*>(args.x),
                             .x_stride = args.ldx * Dot::kElement,
                             .w = static_cast<const uint8_t*>(args.weight->data),
                             .k = args.weight->k_padded * Dot::kElement,
                             .rows = args.rows,
                             .columns = range};
  if (args.rows <= kTileRows) return FewRows<Dot>(args, operands);
  if (args.rows <= kBlockRows) return BlockRows<Dot>(args, operands);
  Scratch<Dot> scratch;
  const int64_t panels = (args.rows + kPanelRows - 1) / kPanelRows;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const Range rows = SplitRange(args.rows, kSlotRows, {static_cast<int>(panel),
                                                         static_cast<int>(panels)});
    for (int64_t column = range.begin; column < range.end; column += kBandColumns) {
      PanelBand<Dot>(args, operands, rows, {column, std::min(range.end, column + kBandColumns)},
                     scratch);
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels::amx
