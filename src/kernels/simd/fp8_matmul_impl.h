// Matmul of weights of FP8 and inputs of BF16 (ops.h), once for all products. `D` is an ISA's arithmetic:
//   Simd                    its FP32 vectors V, one a column
//   Input, kTake            what it multiplies: a float, or BF16 in pairs
//   W                       a vector's weights, kTake of each column
//   kParts, Decode(p, w)    w[part][vector] = the codes from p on, kTake · kParts inputs of 16 columns, times 1 / kFactor
//   Hold(x, count, to)      to = the first `count` of 128 inputs, then zeros
//   Broadcast(x), Dot(sum, x, w)  kTake inputs of one row for all columns, and their product added to a sum
//   kTileRegisters          the products are those of whole tiles: AddTile<kDecoded>(rows, tile) in the place of Broadcast
//                           and Dot
//   kTileRows, kPanelRows   rows of the register tile, and those that pass over the weights together
//   Units(rows)             blocks of 128 inputs side by side: they hide the latency of Dot where rows are few
// Each block of an output has a sum of its own, one chain over k ascending, which its scale adds to the output's:
// neither tiles nor panels nor the number of rows change a bit.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/ops.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::simd {

inline constexpr BlockFormatInfo kFp8Info = InfoOf(BlockFormat::kF8);
// Of a panel's inputs so much is held in the second-level cache, for the columns of a band, whose sums lie there too:
// 240 KiB of 120 rows. Fewer rows hold more inputs.
inline constexpr int64_t kFp8HeldBytes = 256 * 1024;
inline constexpr int64_t kFp8BandColumns = 512;
// Weights are asked for so far ahead, twice the blocks side by side; into the second-level cache, as a first-level one
// has too few requests on their way at a time (Zen 4: 14 GB/s a core instead of 28).
inline constexpr int64_t kFp8Ahead = 16 * 1024;
// Every so many inputs, whose codes are the two lines of a StreamAhead's pair; the scales of 128 inputs are half a pair.
inline constexpr int64_t kFp8AskEvery = 8;
inline constexpr int64_t kFp8Pace = kPace + kPace / 2 * kFp8AskEvery / kBlockInputs;
static_assert(kFp8Info.UnitBytes() * kPace * kFp8AskEvery == kFp8Pace * 2 * kLine * kBlockInputs);

template <typename D>
inline constexpr int64_t kFp8Held = kFp8HeldBytes / sizeof(typename D::Input);
template <typename D>
inline constexpr int kFp8Vectors = static_cast<int>(kStripColumns) / D::kLanes;
// 16 KiB, half of a first-level cache.
template <typename D>
inline constexpr int64_t kFp8DecodedUnits = 16 * 1024 / (kBlockInputs / D::kTake * kFp8Vectors<D> * sizeof(typename D::W));

// What a worker has of a panel of rows.
template <typename D>
struct Fp8Scratch {
  alignas(64) typename D::Input x[kFp8Held<D>];          // [unit][row][kBlockInputs], zeros behind k
  alignas(64) float y[D::kPanelRows * kFp8BandColumns];  // [strip][row][kStripColumns]
  // Units of a strip: the first tile of rows decodes them, the others find them here.
  alignas(64) typename D::W decoded[kFp8DecodedUnits<D> * kBlockInputs / D::kTake][kFp8Vectors<D>];
};

// Units of one strip times a tile of rows.
template <typename D>
struct Fp8Tile {
  const uint8_t* w;  // the first unit
  int64_t units;
  const typename D::Input* x;                // the tile's first row in the first unit
  int64_t x_unit;                            // from unit to unit
  float* y;                                  // [rows][kStripColumns]
  typename D::W (*decoded)[kFp8Vectors<D>];  // null: they are not needed again
  StreamAhead<kToL2>* ahead;
};

// Adds units, as long as there are kUnits of them, to y.
template <typename D, int kRows, int kUnits, bool kDecoded>
[[gnu::always_inline]] inline void AddFp8Units(Fp8Tile<D>& tile) {
  using V = typename D::V;
  using W = typename D::W;
  constexpr int kVectors = kFp8Vectors<D>;
  constexpr int64_t kUnitBytes = kFp8Info.UnitBytes();
  for (; tile.units >= kUnits; tile.units -= kUnits) {
    const uint8_t* const codes = tile.w + kFp8Info.ScaleBytes();
    V s[kUnits][kRows][kVectors];
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) {
#pragma GCC unroll 24
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) s[u][r][v] = D::Zero();
      }
    }
    StreamAhead<kToL2> ahead = *tile.ahead;
    for (int64_t begin = 0; begin < kBlockInputs; begin += kFp8AskEvery) {
      if constexpr (!kDecoded) {
        ahead.Ask(kUnits * kFp8Pace);
      }
      for (int64_t k = begin; k < begin + kFp8AskEvery; k += D::kTake * D::kParts) {
#pragma GCC unroll 4
        for (int u = 0; u < kUnits; ++u) {
          W w[D::kParts][kVectors];
          const int64_t at = (u * kBlockInputs + k) / D::kTake;
          if constexpr (!kDecoded) D::Decode(codes + u * kUnitBytes + k * kStripColumns, w);
#pragma GCC unroll 2
          for (int part = 0; part < D::kParts; ++part) {
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) {
              if constexpr (kDecoded) {
                w[part][v] = tile.decoded[at + part][v];
              } else if (tile.decoded != nullptr) {
                tile.decoded[at + part][v] = w[part][v];
              }
            }
          }
          const typename D::Input* const x = tile.x + u * tile.x_unit + k;
#pragma GCC unroll 2
          for (int part = 0; part < D::kParts; ++part) {
#pragma GCC unroll 24
            for (int r = 0; r < kRows; ++r) {
              const auto value = D::Broadcast(x + r * kBlockInputs + part * D::kTake);
#pragma GCC unroll 2
              for (int v = 0; v < kVectors; ++v) s[u][r][v] = D::Dot(s[u][r][v], value, w[part][v]);
            }
          }
        }
      }
    }
    *tile.ahead = ahead;
    asm volatile("" : : : "memory");  // y loaded early would take the sums' registers
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) {
      const float* const scales = reinterpret_cast<const float*>(tile.w + u * kUnitBytes);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const V scale = D::Mul(D::Load(scales + v * D::kLanes), D::Set(D::kFactor));
#pragma GCC unroll 24
        for (int r = 0; r < kRows; ++r) {
          float* const at = tile.y + r * kStripColumns + v * D::kLanes;
          D::Store(at, D::Fma(s[u][r][v], scale, D::Load(at)));
        }
      }
    }
    tile.w += kUnits * kUnitBytes;
    tile.x += kUnits * tile.x_unit;
    if (tile.decoded != nullptr) tile.decoded += kUnits * kBlockInputs / D::kTake;
  }
}

template <typename D, int kRows, bool kDecoded>
[[gnu::noinline]] void Fp8Rows(Fp8Tile<D> tile) {
  constexpr int kUnits = kDecoded ? 1 : D::Units(kRows);
  static_assert(kUnits <= 4);
  if constexpr (kUnits > 2) AddFp8Units<D, kRows, 4, kDecoded>(tile);
  if constexpr (kUnits > 1) AddFp8Units<D, kRows, 2, kDecoded>(tile);
  AddFp8Units<D, kRows, 1, kDecoded>(tile);
}

template <typename D, bool kDecoded, int kRows = D::kTileRows>
void Fp8TileOf(int64_t rows, const Fp8Tile<D>& tile) {
  // Several tiles of nearly equal heights have at least half of one each.
  constexpr int kLeast = kDecoded ? D::kTileRows / 2 : 1;
  if constexpr (kRows > kLeast) {
    if (rows < kRows) return Fp8TileOf<D, kDecoded, kRows - 1>(rows, tile);
  }
  Fp8Rows<D, kRows, kDecoded>(tile);
}

template <typename D, bool kDecoded>
void AddFp8Tile(int64_t rows, const Fp8Tile<D>& tile) {
  if constexpr (D::kTileRegisters) {
    D::template AddTile<kDecoded>(rows, tile);
  } else {
    Fp8TileOf<D, kDecoded>(rows, tile);
  }
}

// x = the inputs `part` of the rows `panel`.
template <typename D>
void HoldInputs(const MatmulArgs& args, Range panel, Range part, typename D::Input* x) {
  for (int64_t k = part.begin; k < part.end; k += kBlockInputs) {
    const int64_t count = std::min(kBlockInputs, args.weight->k - k);
    for (int64_t r = panel.begin; r < panel.end; ++r, x += kBlockInputs) D::Hold(args.x + r * args.ldx + k, count, x);
  }
}

// y += the held inputs of so many rows times as many units of a strip, from w on.
template <typename D>
void Fp8Strip(const uint8_t* w, int64_t rows, int64_t count, StreamAhead<kToL2>* ahead, float* y,
              Fp8Scratch<D>& scratch) {
  const int64_t tiles = (rows + D::kTileRows - 1) / D::kTileRows;
  const bool decodes_once = tiles == 1 && !D::kTileRegisters;  // in registers alone
  const int64_t at_once = decodes_once ? count : kFp8DecodedUnits<D>;
  for (int64_t u = 0; u < count; u += at_once) {
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t first = rows * i / tiles, height = rows * (i + 1) / tiles - first;
      const Fp8Tile<D> tile = {.w = w + u * kFp8Info.UnitBytes(),
                               .units = std::min(count - u, at_once),
                               .x = scratch.x + (u * rows + first) * kBlockInputs,
                               .x_unit = rows * kBlockInputs,
                               .y = y + first * kStripColumns,
                               .decoded = decodes_once ? nullptr : scratch.decoded,
                               .ahead = ahead};
      i == 0 ? AddFp8Tile<D, false>(height, tile) : AddFp8Tile<D, true>(height, tile);
    }
  }
}

// Rows `panel` times the columns of a worker.
template <typename D>
void Fp8Panel(const MatmulArgs& args, Range panel, Range columns, Fp8Scratch<D>& scratch) {
  const PackedMatrix& weight = *args.weight;
  const int64_t rows = panel.size();
  const int64_t held = std::min(kFp8Held<D> / rows / kBlockInputs * kBlockInputs, weight.k_padded);
  const bool whole = held == weight.k_padded;  // so strips pass one behind the other
  if (whole) HoldInputs<D>(args, panel, {0, held}, scratch.x);
  const auto* const data = static_cast<const uint8_t*>(weight.data);
  StreamAhead<kToL2> ahead(data + weight.Offset(columns.begin) + kFp8Ahead);
  for (int64_t column = columns.begin; column < columns.end; column += kFp8BandColumns) {
    const int64_t width = std::min(kFp8BandColumns, columns.end - column);
    for (int64_t i = 0; i < rows * width; ++i) scratch.y[i] = 0;
    for (int64_t k = 0; k < weight.k_padded; k += held) {
      const Range part = {k, std::min(k + held, weight.k_padded)};
      if (!whole) HoldInputs<D>(args, panel, part, scratch.x);
      for (int64_t c = 0; c < width; c += kStripColumns) {
        const BlockStrip& strip = weight.strips[(column + c) / kStripColumns];
        if (strip.format == BlockFormat::kNone) continue;
        const uint8_t* const w = data + strip.offset + k / kBlockInputs * kFp8Info.UnitBytes();
        if (!whole) ahead = StreamAhead<kToL2>(w + kFp8Ahead);
        Fp8Strip<D>(w, rows, part.size() / kBlockInputs, &ahead, scratch.y + c * rows, scratch);
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      if (r + kRowsAhead < rows) AskForRow(args, panel.begin + r + kRowsAhead, column, width);
      FinishRow<typename D::Simd>(args, panel.begin + r, column, width, scratch.y + r * kStripColumns,
                                  rows * kStripColumns);
    }
  }
}

template <typename D>
void Fp8Matmul(const MatmulArgs& args, Share share) {
  Fp8Scratch<D> scratch;  // some 500 KiB of stack
  const int64_t panels = (args.rows + D::kPanelRows - 1) / D::kPanelRows;
  for (int64_t i = 0; i < panels; ++i) {
    const Range panel = {args.rows * i / panels, args.rows * (i + 1) / panels};
    Fp8Panel<D>(args, panel, args.weight->ColumnRange(share.index), scratch);
  }
}

}  // namespace tiercel::kernels::simd
