// Matmul by tdpbf16ps: C[16 rows × 16 columns] += A[16 × 32] · B[32 × 16] in tile registers, A
// straight from the row-major activations, B straight from the packed weights. Every output
// element is one chain of tile products over k ascending. Where the chain is interrupted, its FP32
// sums are stored and loaded again unchanged, so an element's bits depend on nothing but its row
// and its column.
#include <immintrin.h>

#include <algorithm>

#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/amx/tile_config.h"
#include "kernels/x86/avx512/epilogue.h"

namespace tiercel::kernels::amx {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 16;

// Blocking for more rows than one tile. A tile product takes 16 cycles; a step of 2 × 2 tiles
// takes 64 and loads 64 lines, more than L2 gives in that time (measured: half the rate). So:
// - k in chunks of 256: 32 columns of weights (16 KiB) stay in L1 while all rows go by, and only
//   the activations come from L2;
// - rows in panels of 512, columns in bands of 256: 256 KiB of activations, 128 KiB of weights and
//   512 KiB of sums per chunk of k share a 2 MiB L2, however large k is. Weights are read from
//   memory once a panel (512 FLOP a byte), activations from L3 once a band (256 FLOP a byte), each
//   far below what a core can fetch at 3.5 TFLOP/s.
constexpr int64_t kChunk = 256;
constexpr int64_t kPanelRows = 512;
constexpr int64_t kBandColumns = 256;
constexpr int64_t kSlotRows = 2 * kTileRows;
constexpr int64_t kSlotColumns = 2 * kTileColumns;
constexpr int64_t kSlotFloats = kSlotRows * kSlotColumns;
constexpr int64_t kSlots = kPanelRows / kSlotRows;

// Lines that will be read next, requested a few at each k step.
struct Prefetcher {
  const char* at = nullptr;
  const char* end = nullptr;

  [[gnu::always_inline]] void Lines(int64_t count) {
    for (int64_t i = 0; i < count && at < end; ++i, at += 64) _mm_prefetch(at, _MM_HINT_T1);
  }
};

// At most 16 rows × one packed block: the weights are read as one linear stream.
template <int kGroups>
void RowTile(const MatmulArgs& args, int64_t column, const BF16* w) {
  constexpr int64_t kWidth = kGroups * kTileColumns;
  constexpr int64_t kStride = kWidth * kPair * sizeof(BF16);
  // A tile load is too long to let the core look far ahead in the stream by itself.
  constexpr int64_t kAhead = 8192;
  const int64_t x_stride = args.ldx * sizeof(BF16);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < args.weight->k_padded; k += kKBlock, w += kKBlock * kWidth) {
    const char* ahead = reinterpret_cast<const char*>(w) + kAhead;
    for (int64_t i = 0; i < kStride * 16; i += 64) _mm_prefetch(ahead + i, _MM_HINT_T0);
    _tile_loadd(4, args.x + k, x_stride);
    _tile_loadd(5, w, kStride);
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (kGroups > 1) {
      _tile_loadd(6, w + 32, kStride);
      _tile_dpbf16ps(1, 4, 6);
    }
    if constexpr (kGroups > 2) {
      _tile_loadd(7, w + 64, kStride);
      _tile_dpbf16ps(2, 4, 7);
    }
    if constexpr (kGroups > 3) {
      _tile_loadd(5, w + 96, kStride);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  alignas(64) float acc[kTileRows * kWidth];
  _tile_stored(0, acc, kWidth * sizeof(float));
  if constexpr (kGroups > 1) _tile_stored(1, acc + 16, kWidth * sizeof(float));
  if constexpr (kGroups > 2) _tile_stored(2, acc + 32, kWidth * sizeof(float));
  if constexpr (kGroups > 3) _tile_stored(3, acc + 48, kWidth * sizeof(float));
  for (int64_t r = 0; r < args.rows; ++r) {
    avx512::FinishRow(args, r, column, kWidth, acc + r * kWidth);
  }
}

void FewRows(const MatmulArgs& args, Range columns) {
  TileConfig config;
  for (int tile = 0; tile <= 4; ++tile) config.rows[tile] = static_cast<uint8_t>(args.rows);
  LoadTileConfig(config);
  for (int64_t column = columns.begin; column < columns.end; column += kColumnBlock) {
    const BF16* w =
        static_cast<const BF16*>(args.weight->data) + column * args.weight->k_padded;
    switch (std::min(kColumnBlock, columns.end - column) / kTileColumns) {
      case 1: RowTile<1>(args, column, w); break;
      case 2: RowTile<2>(args, column, w); break;
      case 3: RowTile<3>(args, column, w); break;
      default: RowTile<4>(args, column, w); break;
    }
  }
  LoadTileConfig(kFullTiles);
}

// One or two tiles of rows that are computed together. The last ones of a call may begin before
// `fresh`, over rows that others compute too: whole tiles need no other tile configuration.
struct RowGroup {
  int64_t first[2];  // the first row of each tile
  int tiles;
  int64_t fresh;  // rows before this one are not stored
};

RowGroup GroupAt(int64_t row, int64_t end) {
  const int64_t left = end - row;
  if (left >= kSlotRows) return {{row, row + kTileRows}, 2, row};
  if (left <= kTileRows) return {{std::max(int64_t{0}, end - kTileRows), 0}, 1, row};
  return {{std::max(int64_t{0}, end - kSlotRows), end - kTileRows}, 2, row};
}

// Adds one chunk of k to the sums (a slot) of a row group × kGroups tiles of columns. x0, x1: the
// group's rows at the chunk's k; w: the chunk's first pair at the first column.
template <int kTiles, int kGroups>
void ChunkTile(const BF16* x0, const BF16* x1, int64_t x_stride, const BF16* w, int64_t w_stride,
               int64_t k_count, bool first_chunk, float* slot, Prefetcher& prefetcher,
               int64_t lines_per_step) {
  constexpr int64_t kStride = kSlotColumns * sizeof(float);
  float* const slot1 = slot + kTileRows * kSlotColumns;
  if (first_chunk) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, slot, kStride);
    if constexpr (kTiles == 2) _tile_loadd(1, slot1, kStride);
    if constexpr (kGroups == 2) _tile_loadd(2, slot + kTileColumns, kStride);
    if constexpr (kTiles == 2 && kGroups == 2) _tile_loadd(3, slot1 + kTileColumns, kStride);
  }
  const int64_t w_step = w_stride / static_cast<int64_t>(sizeof(BF16)) * (kKBlock / kPair);
  for (int64_t k = 0; k < k_count; k += kKBlock, w += w_step) {
    _tile_loadd(6, w, w_stride);
    _tile_loadd(4, x0 + k, x_stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTiles == 2) {
      _tile_loadd(5, x1 + k, x_stride);
      _tile_dpbf16ps(1, 5, 6);
    }
    if constexpr (kGroups == 2) {
      _tile_loadd(7, w + kTileColumns * kPair, w_stride);
      _tile_dpbf16ps(2, 4, 7);
      if constexpr (kTiles == 2) _tile_dpbf16ps(3, 5, 7);
    }
    prefetcher.Lines(lines_per_step);
  }
  _tile_stored(0, slot, kStride);
  if constexpr (kTiles == 2) _tile_stored(1, slot1, kStride);
  if constexpr (kGroups == 2) _tile_stored(2, slot + kTileColumns, kStride);
  if constexpr (kTiles == 2 && kGroups == 2) _tile_stored(3, slot1 + kTileColumns, kStride);
}

void FinishSlot(const MatmulArgs& args, const RowGroup& group, int64_t column, int64_t width,
                const float* slot) {
  int64_t fresh = group.fresh;
  for (int tile = 0; tile < group.tiles; ++tile) {
    const int64_t first = group.first[tile];
    for (int64_t row = std::max(first, fresh); row < first + kTileRows; ++row) {
      avx512::FinishRow(args, row, column, width,
                        slot + (tile * kTileRows + row - first) * kSlotColumns);
    }
    fresh = std::max(fresh, first + kTileRows);
  }
}

// One chunk of k for all rows of a panel × at most 32 columns.
void ChunkColumns(const MatmulArgs& args, Range rows, int64_t column, int64_t width,
                  const BF16* w, int64_t w_stride, int64_t k, float* slots,
                  Prefetcher& prefetcher, int64_t lines_per_step) {
  const int64_t k_padded = args.weight->k_padded;
  const int64_t k_count = std::min(kChunk, k_padded - k);
  const bool last = k + k_count == k_padded;
  const int64_t x_stride = args.ldx * sizeof(BF16);
  for (int64_t row = rows.begin; row < rows.end; row += kSlotRows, slots += kSlotFloats) {
    const RowGroup group = GroupAt(row, rows.end);
    const BF16* x0 = args.x + group.first[0] * args.ldx + k;
    const BF16* x1 = args.x + group.first[1] * args.ldx + k;
    const auto tile = [&](auto function) __attribute__((always_inline)) {
      function(x0, x1, x_stride, w, w_stride, k_count, k == 0, slots, prefetcher, lines_per_step);
    };
    if (group.tiles == 2) {
      width == kSlotColumns ? tile(ChunkTile<2, 2>) : tile(ChunkTile<2, 1>);
    } else {
      width == kSlotColumns ? tile(ChunkTile<1, 2>) : tile(ChunkTile<1, 1>);
    }
    if (last) FinishSlot(args, group, column, width, slots);
  }
}

// All of k for the rows of a panel × the columns of a band (whole blocks of one worker's range).
void PanelBand(const MatmulArgs& args, Range rows, Range columns, Range range, float* slots) {
  const BF16* data = static_cast<const BF16*>(args.weight->data);
  const int64_t k_padded = args.weight->k_padded;
  const auto chunk_at = [&](int64_t column, int64_t k) {
    const int64_t width = std::min(kColumnBlock, range.end - column);
    return data + column * k_padded + k * width;
  };
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    const int64_t k_count = std::min(kChunk, k_padded - k);
    float* block_slots = slots;
    for (int64_t column = columns.begin; column < columns.end; column += kColumnBlock) {
      const int64_t width = std::min(kColumnBlock, range.end - column);
      // The next chunk in this order comes in evenly over this one's steps.
      const bool same_k = column + kColumnBlock < columns.end;
      const BF16* next = same_k ? chunk_at(column + kColumnBlock, k)
                         : k + kChunk < k_padded ? chunk_at(columns.begin, k + kChunk)
                                                 : chunk_at(columns.end, 0);
      const bool none = !same_k && k + kChunk >= k_padded && columns.end >= range.end;
      const int64_t next_bytes = none ? 0 : k_count * kColumnBlock * sizeof(BF16);
      Prefetcher prefetcher;
      prefetcher.at = reinterpret_cast<const char*>(next);
      prefetcher.end = prefetcher.at + next_bytes;
      const int64_t steps = (rows.size() + kSlotRows - 1) / kSlotRows * (k_count / kKBlock) *
                            ((width + kSlotColumns - 1) / kSlotColumns);
      const int64_t lines_per_step = (next_bytes / 64 + steps - 1) / steps;
      const BF16* w = chunk_at(column, k);
      for (int64_t c = 0; c < width; c += kSlotColumns, block_slots += kSlots * kSlotFloats) {
        ChunkColumns(args, rows, column + c, std::min(kSlotColumns, width - c), w + c * kPair,
                     width * kPair * sizeof(BF16), k, block_slots, prefetcher, lines_per_step);
      }
    }
  }
}

}  // namespace

void Matmul(const MatmulArgs& args, Share share) {
  const Range range = args.weight->ColumnRange(share.index);
  if (args.rows == 0 || range.size() == 0) return;
  if (args.rows <= kTileRows) return FewRows(args, range);
  alignas(64) float slots[kBandColumns / kSlotColumns * kSlots * kSlotFloats];  // 512 KiB
  const int64_t panels = (args.rows + kPanelRows - 1) / kPanelRows;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const Range rows = SplitRange(args.rows, kSlotRows, {static_cast<int>(panel),
                                                         static_cast<int>(panels)});
    for (int64_t column = range.begin; column < range.end; column += kBandColumns) {
      PanelBand(args, rows, {column, std::min(range.end, column + kBandColumns)}, range, slots);
    }
  }
}

}  // namespace tiercel::kernels::amx
