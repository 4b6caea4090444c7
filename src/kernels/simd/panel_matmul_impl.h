// Matmul of many rows by FP32 FMA, once for all vector widths (S is an ISA's Simd): weights and
// activations are unpacked to FP32 for many products each. Every output element is one chain of FMAs
// over k ascending, as in StreamRows.
#pragma once

#include <algorithm>

#include "kernels/ops.h"
#include "kernels/simd/register_tile.h"
#include "kernels/simd/stream_ahead.h"
#include "kernels/simd/unpack_impl.h"

namespace tiercel::kernels::simd {

// A register tile is kTileRows rows × kTileVectors vectors of sums. Around it, from inside out:
// - a strip of columns, as wide as the tile, × a chunk of k, unpacked (16 KiB), stays in an L1 of 32 KiB
//   while all rows of a panel pass, a tile's x beside it (6 KiB). A tile's sums are loaded and stored
//   once in 1536 cycles of two FMA ports;
// - a panel of rows × the chunk of x as FP32 (132 KiB for strips of 16 columns, 66 for 32) is in L2, made
//   once for a part of the columns, and so are the panel's sums of the part (264 KiB).
// kMinRows: fewer rows never come.
template <typename S, int kTileRows, int kTileVectors, int kMinRows>
class PanelMatmul {
 public:
  explicit PanelMatmul(const MatmulArgs& args)
      : args_(args), panels_((args.rows + kPanelRows - 1) / kPanelRows) {}

  // Calls finish(row, column, width, sums, stride) for parts of all rows of `columns`: `width` columns
  // from `column` on, whose sums lie in groups of kColumnGroup, `stride` floats from group to group.
  template <typename Finish>
  void Run(Range columns, Finish&& finish) {
    end_ = columns.end;
    for (int64_t column = columns.begin; column < columns.end; column += kPartColumns) {
      const Range part = {column, std::min(columns.end, column + kPartColumns)};
      for (int64_t panel = 0; panel < panels_; ++panel) {
        const Range rows = {args_.rows * panel / panels_, args_.rows * (panel + 1) / panels_};
        Sums(rows, part, panel + 1 < panels_ ? part.begin : part.end);
        for (int64_t row = 0; row < rows.size(); ++row) {
          finish(rows.begin + row, part.begin, part.size(), sums_ + row * kColumnGroup,
                 rows.size() * kColumnGroup);
        }
      }
    }
  }

 private:
  static constexpr int64_t kStrip = kTileVectors * S::kLanes;
  static constexpr int64_t kChunk = 4096 / kStrip;
  static constexpr int64_t kPanelRows = 132;  // whole tiles of 6 and of 12
  static constexpr int64_t kPartColumns = 512;
  static constexpr int64_t kPage = 2 * kHalfPage / sizeof(BF16);
  // Rows are shared out evenly among the tiles: no tile has fewer.
  static constexpr int kLeastTileRows = kMinRows / ((kMinRows + kTileRows - 1) / kTileRows);
  static_assert(kStrip == kColumnGroup || S::kLanes == kColumnGroup);
  static_assert(kColumnBlock % kStrip == 0);
  using Ahead = StreamAhead<kToL2>;

  int64_t WidthOf(int64_t column) const { return std::min(kColumnBlock, end_ - column); }
  // The packed block of columns from `column` on, from k on.
  const BF16* Weights(int64_t column, int64_t k) const {
    return static_cast<const BF16*>(args_.weight->data) + column * args_.weight->k_padded +
           k * WidthOf(column);
  }

  // The sums of a panel and a part of the columns; those from `next` on follow.
  void Sums(Range rows, Range part, int64_t next) {
    const int64_t k_padded = args_.weight->k_padded;
    for (int64_t k = 0; k < k_padded; k += kChunk) {
      const Range chunk = {k, std::min(k_padded, k + kChunk)};
      WidenRows<S>(args_, rows, chunk, x_, kChunk);
      for (int64_t column = part.begin; column < part.end; column += kColumnBlock) {
        const int64_t after = column + kColumnBlock;
        Block(rows, chunk, column, sums_ + (column - part.begin) * rows.size(),
              after < part.end       ? Weights(after, k)
              : chunk.end < k_padded ? Weights(part.begin, chunk.end)
                                     : Weights(next, 0));
      }
    }
  }

  // Adds one chunk of the packed block of columns from `column` on. The weights at `next` follow.
  void Block(Range rows, Range k, int64_t column, float* sums, const BF16* next) {
    const int64_t width = WidthOf(column);
    const BF16* w = Weights(column, k.begin);
    // They come in evenly over this block's arithmetic, from a page before them on: StreamAhead takes the
    // first half page to be on its way.
    Ahead ahead(next - kPage);
    const int64_t pairs_of_lines = (k.size() * width + kPage) * sizeof(BF16) / kLine / 2;
    const int64_t tiles = (rows.size() + kTileRows - 1) / kTileRows;
    const int64_t turns = tiles * ((width + kStrip - 1) / kStrip);
    const int64_t pairs = (pairs_of_lines + turns - 1) / turns;
    for (int64_t c = 0; c < width; c += kStrip) {
      const int64_t strip = std::min(kStrip, width - c);
      Unpack(w + c * kPair, width, k.size(), strip);
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t first = rows.size() * tile / tiles;
        const int height = static_cast<int>(rows.size() * (tile + 1) / tiles - first);
        const Place place = {x_ + first * kChunk, w_,
                             sums + c * rows.size() + first * kColumnGroup,
                             rows.size() * kColumnGroup, k, pairs, &ahead};
        if (strip == kStrip) {
          TileOf<kTileRows, kTileVectors>(height, place);
        } else if constexpr (kStrip > kColumnGroup) {
          TileOf<kTileRows, kColumnGroup / S::kLanes>(height, place);
        }
      }
    }
  }

  // w_ = [k][strip] of the packed pairs at w, whose rows are `width` pairs.
  void Unpack(const BF16* w, int64_t width, int64_t count, int64_t strip) {
    float* to = w_;
    for (int64_t k = 0; k < count; k += kPair, w += width * kPair, to += kPair * strip) {
      for (int64_t c = 0; c < strip; c += S::kLanes) {
        UnpackParts<S, BF16>(w + c * kPair, to + c, strip);
      }
    }
  }

  struct Place {
    const float* x;  // [rows][kChunk]
    const float* w;  // [k][columns]
    float* sums;     // [rows][kColumnGroup], and a second group `sums_stride` behind
    int64_t sums_stride;
    Range k;
    int64_t pairs;  // of lines to ask for
    Ahead* ahead;
  };

  template <int kRows, int kVectors>
  static void TileOf(int rows, const Place& place) {
    if constexpr (kRows > kLeastTileRows) {
      if (rows < kRows) return TileOf<kRows - 1, kVectors>(rows, place);
    }
    Tile<kRows, kVectors>(place);
  }

  // sums += x · w, from 0 on in the first chunk.
  template <int kRows, int kVectors>
  [[gnu::noinline]] static void Tile(const Place& place) {
    const int64_t vector_stride = S::kLanes == kColumnGroup ? place.sums_stride : S::kLanes;
    RegisterTile<S, kRows, kVectors> tile;
    if (place.k.begin == 0) {
      tile.Clear();
    } else {
      tile.Load(place.sums, kColumnGroup, vector_stride);
    }
    Ahead ahead = *place.ahead;
    int64_t pairs = place.pairs;
    tile.AddMatrix(place.x, kChunk, place.w, place.k.size(), [&]() __attribute__((always_inline)) {
      if (pairs-- > 0) ahead.AskPair();
    });
    *place.ahead = ahead;
    tile.Store(place.sums, kColumnGroup, vector_stride);
  }

  const MatmulArgs& args_;
  const int64_t panels_;
  int64_t end_ = 0;  // of the columns
  alignas(64) float w_[kStrip * kChunk];
  alignas(64) float x_[kPanelRows * kChunk];
  alignas(64) float sums_[kPanelRows * kPartColumns];  // [group][row][kColumnGroup]
};

}  // namespace tiercel::kernels::simd
