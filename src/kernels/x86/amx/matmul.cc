// Matmul by tdpbf16ps: C[16 rows × 16 columns] += A[16 × 32] · B[32 × 16] in tile registers, A
// straight from the row-major activations, B straight from the packed weights. Every output
// element is accumulated over the whole k, ascending, in one tile register: its bits depend on
// nothing but its row and its column.
#include <immintrin.h>

#include <algorithm>

#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/amx/tile_config.h"
#include "kernels/x86/avx512/epilogue.h"

namespace tiercel::kernels::amx {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 16;

// Lines of the block that will be read next, requested a few at each k step.
struct Prefetcher {
  const char* at = nullptr;
  const char* end = nullptr;
  int64_t lines_per_step = 0;

  [[gnu::always_inline]] void Step() {
    for (int64_t i = 0; i < lines_per_step && at < end; ++i, at += 64) {
      _mm_prefetch(at, _MM_HINT_T1);
    }
  }
};

// One packed block of columns.
struct Block {
  const BF16* w;
  int64_t column;
  int64_t width;
};

// 32 rows × 16 or 32 columns: each of A and B is loaded once for two products. `column` is
// within the block. The first `skip` rows are computed, not stored.
template <int kGroups>
void PairTile(const MatmulArgs& args, int64_t row, int64_t skip, const Block& block,
              int64_t column, Prefetcher& prefetcher) {
  const int64_t x_stride = args.ldx * sizeof(BF16);
  const int64_t w_stride = block.width * kPair * sizeof(BF16);
  const BF16* x0 = args.x + row * args.ldx;
  const BF16* x1 = x0 + kTileRows * args.ldx;
  const BF16* w = block.w + column * kPair;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < args.weight->k_padded; k += kKBlock, w += kKBlock * block.width) {
    _tile_loadd(6, w, w_stride);
    _tile_loadd(4, x0 + k, x_stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, x1 + k, x_stride);
    _tile_dpbf16ps(1, 5, 6);
    if constexpr (kGroups == 2) {
      _tile_loadd(7, w + kTileColumns * kPair, w_stride);
      _tile_dpbf16ps(2, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
    prefetcher.Step();
  }
  constexpr int64_t kWidth = kGroups * kTileColumns;
  alignas(64) float acc[2 * kTileRows * kWidth];
  _tile_stored(0, acc, kWidth * sizeof(float));
  _tile_stored(1, acc + kTileRows * kWidth, kWidth * sizeof(float));
  if constexpr (kGroups == 2) {
    _tile_stored(2, acc + kTileColumns, kWidth * sizeof(float));
    _tile_stored(3, acc + kTileRows * kWidth + kTileColumns, kWidth * sizeof(float));
  }
  for (int64_t r = skip; r < 2 * kTileRows; ++r) {
    avx512::FinishRow(args, row + r, block.column + column, kWidth, acc + r * kWidth);
  }
}

// At most 16 rows × the whole block: the weights are read as one linear stream.
template <int kGroups>
void RowTile(const MatmulArgs& args, int64_t row, int64_t skip, int64_t rows, const Block& block,
             Prefetcher& prefetcher) {
  constexpr int64_t kWidth = kGroups * kTileColumns;
  constexpr int64_t kStride = kWidth * kPair * sizeof(BF16);
  const int64_t x_stride = args.ldx * sizeof(BF16);
  const BF16* x = args.x + row * args.ldx;
  const BF16* w = block.w;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < args.weight->k_padded; k += kKBlock, w += kKBlock * kWidth) {
    _tile_loadd(4, x + k, x_stride);
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
    prefetcher.Step();
  }
  alignas(64) float acc[kTileRows * kWidth];
  _tile_stored(0, acc, kWidth * sizeof(float));
  if constexpr (kGroups > 1) _tile_stored(1, acc + 16, kWidth * sizeof(float));
  if constexpr (kGroups > 2) _tile_stored(2, acc + 32, kWidth * sizeof(float));
  if constexpr (kGroups > 3) _tile_stored(3, acc + 48, kWidth * sizeof(float));
  for (int64_t r = skip; r < rows; ++r) {
    avx512::FinishRow(args, row + r, block.column, kWidth, acc + r * kWidth);
  }
}

void RowTileOf(const MatmulArgs& args, int64_t row, int64_t skip, int64_t rows, const Block& block,
               Prefetcher& prefetcher) {
  switch (block.width / kTileColumns) {
    case 1: return RowTile<1>(args, row, skip, rows, block, prefetcher);
    case 2: return RowTile<2>(args, row, skip, rows, block, prefetcher);
    case 3: return RowTile<3>(args, row, skip, rows, block, prefetcher);
    default: return RowTile<4>(args, row, skip, rows, block, prefetcher);
  }
}

void PairRows(const MatmulArgs& args, int64_t row, int64_t skip, const Block& block,
              Prefetcher& prefetcher) {
  int64_t column = 0;
  for (; column + 32 <= block.width; column += 32) {
    PairTile<2>(args, row, skip, block, column, prefetcher);
  }
  if (column < block.width) PairTile<1>(args, row, skip, block, column, prefetcher);
}

// The rows [begin, end) of one block. The last tile may start before the rows that are left, over
// rows that are already done: computing them again is cheaper than another tile configuration.
void BlockRows(const MatmulArgs& args, Range rows, const Block& block, Prefetcher& prefetcher) {
  int64_t row = rows.begin;
  for (; row + 32 <= rows.end; row += 32) PairRows(args, row, 0, block, prefetcher);
  const int64_t left = rows.end - row;
  if (left == 0) return;
  if (left <= kTileRows) {
    const int64_t first = std::max(int64_t{0}, rows.end - kTileRows);
    RowTileOf(args, first, row - first, rows.end - first, block, prefetcher);
  } else {
    const int64_t first = std::max(int64_t{0}, rows.end - 2 * kTileRows);
    if (first + 2 * kTileRows == rows.end) {
      PairRows(args, first, row - first, block, prefetcher);
    } else {  // 17 to 31 rows in all
      RowTileOf(args, 0, 0, kTileRows, block, prefetcher);
      RowTileOf(args, rows.end - kTileRows, 2 * kTileRows - rows.end, kTileRows, block,
                prefetcher);
    }
  }
}

}  // namespace

void Matmul(const MatmulArgs& args, Share share) {
  if (args.rows == 0) return;
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  if (args.rows < kTileRows) {
    TileConfig config;
    for (int tile = 0; tile <= 4; ++tile) config.rows[tile] = static_cast<uint8_t>(args.rows);
    LoadTileConfig(config);
  }
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - column);
    const BF16* w = static_cast<const BF16*>(weight.data) + column * weight.k_padded;
    Prefetcher prefetcher;
    BlockRows(args, {0, args.rows}, {w, column, width}, prefetcher);
  }
  if (args.rows < kTileRows) LoadTileConfig(kFullTiles);
}

}  // namespace tiercel::kernels::amx
