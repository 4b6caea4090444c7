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

// Blocking for more rows than one tile. A step of 2 × 2 tiles takes 64 cycles, in which L2 gives
// about 29 lines, and loads 64. So:
// - k in chunks of 192: 64 columns of weights (24 KiB) stay in L1 while all rows go by, and 32 rows
//   of activations (12 KiB) stay there for the two halves of the columns. With the sums going in
//   and out that is 9 lines from L2 per tile product of 16 cycles;
// - rows in panels of 512, columns in bands of 256: 192 KiB of activations, 96 KiB of weights and
//   512 KiB of sums per chunk of k share a 1 to 2 MiB L2, however large k is. Weights are read from
//   memory once a panel (512 FLOP a byte), activations from L3 once a band (256 FLOP a byte), each
//   below what a core can fetch at 3.5 TFLOP/s.
constexpr int64_t kChunk = 192;
constexpr int64_t kPanelRows = 512;
constexpr int64_t kBandColumns = 256;
constexpr int64_t kSlotRows = 2 * kTileRows;
constexpr int64_t kSlotColumns = 2 * kTileColumns;
constexpr int64_t kSlotFloats = kSlotRows * kSlotColumns;
constexpr int64_t kSlots = kPanelRows / kSlotRows;
constexpr int64_t kSteps = kChunk / kKBlock;
// So many of a slot's 32 rows are asked for at each step.
constexpr int64_t kRowsPerStep = (kSlotRows + kSteps - 1) / kSteps;

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
void FinishSlot(const MatmulArgs& args, const RowGroup& group, int64_t column, int64_t width,
                const float* slot) {
  for (int tile = 0; tile < group.tiles; ++tile) {
    const int64_t first = group.first[tile];
    for (int64_t row = group.fresh[tile]; row < first + kTileRows; ++row) {
      avx512::FinishRow(args, row, column, width,
                        slot + (tile * kTileRows + row - first) * kSlotColumns);
    }
  }
}

// What the tiles of one chunk of k × at most 32 columns have in common.
struct Chunk {
  const BF16* w;      // the first pair of k at the first column
  int64_t w_stride;   // bytes from pair to pair
  int64_t w_step;     // elements from k step to k step
  int64_t x_stride;   // bytes from row to row
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
template <int kTiles, int kGroups>
[[gnu::noinline]] void ChunkTile(Chunk& chunk, const BF16* x0, const BF16* x1, float* slot) {
  constexpr int64_t kStride = kSlotColumns * sizeof(float);
  float* const slot1 = slot + kTileRows * kSlotColumns;
  if (chunk.first) {
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
  const BF16* w = chunk.w;
  const char* next = chunk.next;
  const int64_t lines = chunk.lines_per_step;
  const char* next_x = reinterpret_cast<const char*>(x0) + chunk.x_ahead;
  for (int64_t k = 0; k < chunk.k_count; k += kKBlock, w += chunk.w_step) {
    _tile_loadd(6, w, chunk.w_stride);
    _tile_loadd(4, x0 + k, chunk.x_stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTiles == 2) {
      _tile_loadd(5, x1 + k, chunk.x_stride);
      _tile_dpbf16ps(1, 5, 6);
    }
    if constexpr (kGroups == 2) {
      _tile_loadd(7, w + kTileColumns * kPair, chunk.w_stride);
      _tile_dpbf16ps(2, 4, 7);
      if constexpr (kTiles == 2) _tile_dpbf16ps(3, 5, 7);
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
void ChunkBlock(const MatmulArgs& args, Range rows, int64_t column, int64_t width, const BF16* w,
                int64_t k, Chunk& chunk, float (*slots)[kSlots * kSlotFloats]) {
  const bool last = k + chunk.k_count == args.weight->k_padded;
  const int64_t x_ahead = chunk.x_ahead;
  int64_t offset = 0;
  for (int64_t row = rows.begin; row < rows.end; row += kSlotRows, offset += kSlotFloats) {
    const RowGroup group = GroupAt(row, rows.end);
    const BF16* x0 = args.x + group.first[0] * args.ldx + k;
    const BF16* x1 = args.x + group.first[1] * args.ldx + k;
    for (int64_t c = 0; c < width; c += kSlotColumns) {
      const int64_t columns = std::min(kSlotColumns, width - c);
      float* slot = slots[c / kSlotColumns] + offset;
      chunk.w = w + c * kPair;
      chunk.x_ahead = x_ahead + c / kSlotColumns * chunk.x_lines * 64;
      if (group.tiles == 2) {
        columns == kSlotColumns ? ChunkTile<2, 2>(chunk, x0, x1, slot)
                                : ChunkTile<2, 1>(chunk, x0, x1, slot);
      } else {
        columns == kSlotColumns ? ChunkTile<1, 2>(chunk, x0, x1, slot)
                                : ChunkTile<1, 1>(chunk, x0, x1, slot);
      }
      if (last) FinishSlot(args, group, column + c, columns, slot);
    }
  }
}

struct Scratch {
  alignas(64) float slots[kBandColumns / kSlotColumns][kSlots * kSlotFloats];  // 512 KiB
};

// All of k for the rows of a panel × the columns of a band, which are whole blocks of the
// worker's `range`.
void PanelBand(const MatmulArgs& args, Range rows, Range band, Range range, Scratch& scratch) {
  const BF16* data = static_cast<const BF16*>(args.weight->data);
  const int64_t k_padded = args.weight->k_padded;
  const int64_t groups = (rows.size() + kSlotRows - 1) / kSlotRows;
  const auto width_at = [&](int64_t column) { return std::min(kColumnBlock, range.end - column); };
  const auto chunk_at = [&](int64_t column, int64_t k) {
    return data + column * k_padded + k * width_at(column);
  };
  Chunk chunk;
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    chunk.k_count = std::min(kChunk, k_padded - k);
    chunk.x_stride = args.ldx * sizeof(BF16);
    chunk.first = k == 0;
    // The activations of the next chunk of k (at the band's end the first again), a few lines of
    // each row in each pass over the rows.
    const int64_t passes = (band.size() + kSlotColumns - 1) / kSlotColumns;
    chunk.x_lines = (kSteps + passes - 1) / passes;
    const int64_t x_ahead =
        (k + kChunk < k_padded ? kChunk : -k) * static_cast<int64_t>(sizeof(BF16));
    for (int64_t column = band.begin; column < band.end; column += kColumnBlock) {
      // What comes next in this order; past the range's end it is this chunk again, harmlessly.
      const BF16* const w = chunk_at(column, k);
      const BF16* next = w;
      if (column + kColumnBlock < band.end) {
        next = chunk_at(column + kColumnBlock, k);
      } else if (k + kChunk < k_padded) {
        next = chunk_at(band.begin, k + kChunk);
      } else if (band.end < range.end) {
        next = chunk_at(band.end, 0);
      }
      const int64_t width = width_at(column);
      const int64_t steps = groups * (chunk.k_count / kKBlock) *
                            ((width + kSlotColumns - 1) / kSlotColumns);
      const int64_t lines = chunk.k_count * width * static_cast<int64_t>(sizeof(BF16)) / 64;
      chunk.next = reinterpret_cast<const char*>(next);
      chunk.lines_per_step = (lines + steps - 1) / steps;
      chunk.w_stride = width * kPair * sizeof(BF16);
      chunk.w_step = width * kKBlock;
      const int64_t pass = (column - band.begin) / kSlotColumns;
      chunk.x_ahead = x_ahead + pass * chunk.x_lines * 64;
      ChunkBlock(args, rows, column, width, w, k, chunk, &scratch.slots[pass]);
    }
  }
}

}  // namespace

void Matmul(const MatmulArgs& args, Share share) {
  const Range range = args.weight->ColumnRange(share.index);
  if (args.rows == 0 || range.size() == 0) return;
  if (args.rows <= kTileRows) return FewRows(args, range);
  Scratch scratch;
  const int64_t panels = (args.rows + kPanelRows - 1) / kPanelRows;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const Range rows = SplitRange(args.rows, kSlotRows, {static_cast<int>(panel),
                                                         static_cast<int>(panels)});
    for (int64_t column = range.begin; column < range.end; column += kBandColumns) {
      PanelBand(args, rows, {column, std::min(range.end, column + kBandColumns)}, range, scratch);
    }
  }
}

}  // namespace tiercel::kernels::amx
