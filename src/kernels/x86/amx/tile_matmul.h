// Matmul in tile registers, once for BF16 and INT8: C[16 rows × 16 columns] += A[16 × 64 bytes of k] ·
// B[64 bytes of k × 16], A straight from the row-major activations, B straight from the packed
// weights. Both types put four bytes of k in a lane, so all but the instruction is the same when k is
// counted in bytes. Every output element is one chain of tile products over k ascending. Where the
// chain is interrupted, its FP32 or INT32 sums are stored and loaded again unchanged, so an
// element's bits depend on nothing but its row and its column.
//
// `Dot` is a type's product: Args, Sum, kElement (bytes), Multiply<c, a, b>() on tile registers,
// FinishRow(args, row, column, width, const Sum*), and AskForRow(args, row, column, width) for where that will write.
#pragma once

#include <immintrin.h>

#include <algorithm>

#include "kernels/ops.h"
#include "kernels/simd/stream_ahead.h"
#include "kernels/x86/amx/tile_config.h"

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
  simd::StreamAhead<simd::kToL1> ahead(w + kAhead);
  for (int64_t k = 0; k < operands.k; k += kTileBytes, w += kTileRows * kStride) {
    for (int64_t i = 0; i < kStride * kTileRows; i += 2 * simd::kLine) ahead.AskPair();
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
                                             simd::StreamAhead<simd::kToL2>* ahead,
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
  simd::StreamAhead<simd::kToL2> ahead(w + kAhead);
  const int64_t passes = (tiles + 1) / 2 * ((width + 2 * kTileColumns - 1) / (2 * kTileColumns));
  const int64_t pairs = (width * kTileBytes / (2 * simd::kLine) + passes - 1) / passes;
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

// Blocking for more rows. A step of 2 × 2 tiles takes 64 cycles and loads four tiles; two of them or four come from L2,
// which keeps up if little else is asked of it. So:
// - a chain of products goes over up to 2560 bytes of k before its sums leave the tile registers: going out and in
//   every 384 bytes they took a third of the time;
// - rows in panels of 256: 640 KiB of activations, a block of 64 columns of weights (160 KiB) with the next one on its
//   way and, where k is longer, 512 KiB of sums of a band of 512 columns share a 2 MiB L2. Weights are read from memory
//   once a panel (256 FLOP a byte): half of what a core can fetch at 1.5 TFLOP/s;
// - the next block of weights is asked for a line or so with each tile product;
// - the epilogue of a slot goes beside the products of the next one, a row a step, and where it writes is asked for
//   a slot before: done at once, it took another third.
// Measured on one core of a busy machine, in turn with products on registers alone.
constexpr int64_t kPanelRows = 256;
constexpr int64_t kMaxChunk = 2560;
constexpr int64_t kBandColumns = 512;
constexpr int64_t kSlotRows = 2 * kTileRows;
constexpr int64_t kSlotColumns = 2 * kTileColumns;
constexpr int64_t kSlotSums = kSlotRows * kSlotColumns;
constexpr int64_t kSlots = kPanelRows / kSlotRows;

// One or two tiles of rows that are computed together, for the rows [row, end). The last ones of a panel may begin
// before `row`, over rows that others compute too: whole tiles need no other tile configuration.
struct RowGroup {
  int64_t row = 0, end = 0;
  int tiles = 0;
  int64_t first[2] = {};  // the first row of each tile
};

RowGroup GroupAt(int64_t row, int64_t end) {
  if (end - row <= kTileRows) return {row, end, 1, {std::max(int64_t{0}, end - kTileRows), 0}};
  const int64_t first = std::max(int64_t{0}, std::min(row, end - kSlotRows));
  return {row, std::min(row + kSlotRows, end), 2, {first, std::min(row + kTileRows, end - kTileRows)}};
}

// The rows of a slot whose sums are complete and wait for their epilogue.
template <typename Dot>
class PendingRows {
 public:
  explicit PendingRows(const typename Dot::Args& args) : args_(args) {}

  void Add(const RowGroup& group, int64_t column, int64_t width, const typename Dot::Sum* slot) {
    FinishAll();
    group_ = group;
    column_ = column;
    width_ = width;
    slot_ = slot;
  }
  void FinishAll() {
    while (group_.row < group_.end) FinishOne();
  }
  [[gnu::always_inline]] void FinishOne() {
    if (group_.row == group_.end) return;
    const int64_t row = group_.row++;
    const int64_t in_first = row - group_.first[0];
    const int64_t at = in_first < kTileRows ? in_first : kTileRows + row - group_.first[1];
    Dot::FinishRow(args_, row, column_, width_, slot_ + at * kSlotColumns);
  }

 private:
  const typename Dot::Args& args_;
  RowGroup group_;
  int64_t column_ = 0, width_ = 0;
  const typename Dot::Sum* slot_ = nullptr;
};

// What the tiles of one chunk of k × at most 32 columns have in common.
struct Chunk {
  const uint8_t* w;  // the first lane of k at the first column
  int64_t column, width;
  int64_t w_stride;  // from lane to lane of k
  int64_t w_step;    // from k step to k step
  int64_t x_stride;  // from row to row
  int64_t k_count;
  bool first, last;  // the sums begin, end here
  // Weights that will be read after this chunk are asked for evenly over its k steps.
  const char* next;
  int64_t lines_per_step;
  int64_t rows_per_step;  // of output, finished and asked for
};

// Adds the chunk to the sums at `from` (a slot) of a row group × kGroups tiles of columns; they go to `to`. x0, x1: the
// group's rows at the chunk's k.
template <typename Dot, int kTiles, int kGroups>
[[gnu::noinline]] void ChunkTile(const typename Dot::Args& args, Chunk& chunk, const RowGroup& group,
                                 const uint8_t* x0, const uint8_t* x1, const typename Dot::Sum* from,
                                 typename Dot::Sum* to, PendingRows<Dot>& pending) {
  constexpr int64_t kStride = kSlotColumns * sizeof(*to);
  constexpr int64_t kSecond = kTileRows * kSlotColumns;
  if (chunk.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    LoadTile<0>(from, kStride);
    if constexpr (kTiles == 2) LoadTile<1>(from + kSecond, kStride);
    if constexpr (kGroups == 2) LoadTile<2>(from + kTileColumns, kStride);
    if constexpr (kTiles == 2 && kGroups == 2) LoadTile<3>(from + kSecond + kTileColumns, kStride);
  }
  const uint8_t* w = chunk.w;
  const char* next = chunk.next;
  const int64_t lines = chunk.lines_per_step, rows_per_step = chunk.rows_per_step;
  int64_t row = chunk.last ? group.row : group.end;  // that is asked for
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
    for (int64_t i = 0; i < lines; ++i, next += simd::kLine) _mm_prefetch(next, _MM_HINT_T1);
    for (int64_t i = 0; i < rows_per_step; ++i) {
      if (row < group.end) Dot::AskForRow(args, row++, chunk.column, chunk.width);
      pending.FinishOne();
    }
  }
  chunk.next = next;
  _tile_stored(0, to, kStride);
  if constexpr (kTiles == 2) _tile_stored(1, to + kSecond, kStride);
  if constexpr (kGroups == 2) _tile_stored(2, to + kTileColumns, kStride);
  if constexpr (kTiles == 2 && kGroups == 2) _tile_stored(3, to + kSecond + kTileColumns, kStride);
}

template <typename Dot>
struct Scratch {
  // Between chunks of k, [32 columns of the band][row group].
  alignas(64) typename Dot::Sum slots[kBandColumns / kSlotColumns][kSlots][kSlotSums];  // 512 KiB
  alignas(64) typename Dot::Sum complete[2][kSlotSums];  // one is finished while the other comes
};

// The rows of a panel × the columns of a band, which are whole blocks of the worker's range.
template <typename Dot>
class PanelBand {
 public:
  PanelBand(const typename Dot::Args& args, const Operands& operands, Scratch<Dot>& scratch)
      : args_(args), operands_(operands), scratch_(scratch), pending_(args) {
    const int64_t chunks = (operands.k + kMaxChunk - 1) / kMaxChunk;
    k_chunk_ = (operands.k / kTileBytes + chunks - 1) / chunks * kTileBytes;
    chunk_.x_stride = operands.x_stride;
  }

  void Run(Range rows, Range band) {
    for (int64_t k = 0; k < operands_.k; k += k_chunk_) {
      chunk_.k_count = std::min(k_chunk_, operands_.k - k);
      chunk_.rows_per_step = (kSlotRows * kTileBytes + chunk_.k_count - 1) / chunk_.k_count;
      chunk_.first = k == 0;
      chunk_.last = k + chunk_.k_count == operands_.k;
      for (int64_t column = band.begin; column < band.end; column += kColumnBlock) {
        RunBlock(rows, band, column, k);
      }
    }
    pending_.FinishAll();
  }

 private:
  int64_t WidthAt(int64_t column) const { return std::min(kColumnBlock, operands_.columns.end - column); }
  const uint8_t* WeightsAt(int64_t column, int64_t k) const {
    return operands_.w + column * operands_.k + k * WidthAt(column);
  }
  // What comes behind a block's chunk; at the range's end it is the chunk again, harmlessly.
  const uint8_t* WeightsAfter(Range band, int64_t column, int64_t k) const {
    if (column + kColumnBlock < band.end) return WeightsAt(column + kColumnBlock, k);
    if (!chunk_.last) return WeightsAt(band.begin, k + k_chunk_);
    return band.end < operands_.columns.end ? WeightsAt(band.end, 0) : WeightsAt(column, k);
  }

  // The chunk of k at `k` for all rows × one packed block.
  void RunBlock(Range rows, Range band, int64_t column, int64_t k) {
    const int64_t width = WidthAt(column);
    const int64_t halves = (width + kSlotColumns - 1) / kSlotColumns;
    const int64_t groups = (rows.size() + kSlotRows - 1) / kSlotRows;
    const int64_t lines = chunk_.k_count * width / simd::kLine;
    const int64_t steps = groups * halves * (chunk_.k_count / kTileBytes);
    chunk_.next = reinterpret_cast<const char*>(WeightsAfter(band, column, k));
    chunk_.lines_per_step = (lines + steps - 1) / steps;
    chunk_.w_stride = width * kLaneBytes;
    chunk_.w_step = width * kTileBytes;
    for (int64_t i = 0; i < groups; ++i) {
      const RowGroup group = GroupAt(rows.begin + i * kSlotRows, rows.end);
      for (int64_t half = 0; half < halves; ++half) {
        chunk_.column = column + half * kSlotColumns;
        chunk_.width = std::min(kSlotColumns, width - half * kSlotColumns);
        chunk_.w = WeightsAt(column, k) + half * kSlotColumns * kLaneBytes;
        RunSlot(group, k, scratch_.slots[(chunk_.column - band.begin) / kSlotColumns][i]);
      }
    }
  }

  void RunSlot(const RowGroup& group, int64_t k, typename Dot::Sum* slot) {
    typename Dot::Sum* const to = chunk_.last ? scratch_.complete[turn_ ^= 1] : slot;
    const uint8_t* const x0 = operands_.x + group.first[0] * operands_.x_stride + k;
    const uint8_t* const x1 = operands_.x + group.first[1] * operands_.x_stride + k;
    const auto add = [&]<int kTiles, int kGroups>() {
      ChunkTile<Dot, kTiles, kGroups>(args_, chunk_, group, x0, x1, slot, to, pending_);
    };
    if (chunk_.width == kSlotColumns) {
      group.tiles == 2 ? add.template operator()<2, 2>() : add.template operator()<1, 2>();
    } else {
      group.tiles == 2 ? add.template operator()<2, 1>() : add.template operator()<1, 1>();
    }
    if (chunk_.last) pending_.Add(group, chunk_.column, chunk_.width, to);
  }

  const typename Dot::Args& args_;
  const Operands& operands_;
  Scratch<Dot>& scratch_;
  PendingRows<Dot> pending_;
  Chunk chunk_;
  int64_t k_chunk_;
  int turn_ = 0;  // of scratch_.complete
};

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
  PanelBand<Dot> panel_band(args, operands, scratch);
  const int64_t panels = (args.rows + kPanelRows - 1) / kPanelRows;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const Range rows = SplitRange(args.rows, kSlotRows, {static_cast<int>(panel),
                                                         static_cast<int>(panels)});
    for (int64_t column = range.begin; column < range.end; column += kBandColumns) {
      panel_band.Run(rows, {column, std::min(range.end, column + kBandColumns)});
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels::amx
