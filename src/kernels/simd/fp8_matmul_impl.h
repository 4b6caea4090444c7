// Matmul of weights of FP8 and inputs of BF16 (ops.h), once for both vector widths. `D` is an ISA's arithmetic: its Simd,
// with
//   kTileRows       rows of the register tile
//   kLines          inputs' lines of 16 codes that Decode takes at once
//   Decode(p, w)    w[line][vector] = the codes of these lines, times 2⁻⁸, of 16 / kLanes vectors
//   Chains(rows)    of the four sums of ops.h, how many run at a time: they hide the latency of the FMA where rows are few,
//                   and take registers
// A code's bits are those of a binary16 number with its exponent's bias of 15 for 7, subnormals included: 2⁻⁸ of it, which
// a block's scale makes up for.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/ops.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::simd {

// Rows that pass over the weights together, and what of their inputs is held in FP32: 128 KiB of the second-level cache.
// Fewer rows hold more inputs.
inline constexpr int64_t kFp8PanelRows = 32;
inline constexpr int64_t kFp8Inputs = 32 * 1024;
// From row to row beyond their inputs: rows would meet in a few sets of the first-level cache.
inline constexpr int64_t kFp8Pad = 16;
inline constexpr int64_t kFp8Ahead = 4096;
inline constexpr BlockFormatInfo kFp8Info = InfoOf(BlockFormat::kF8);

// One unit of a strip (128 inputs) times a tile of rows: adds to y [rows][kColumnBlock].
template <typename D, int kRows>
[[gnu::always_inline]] inline void AddFp8Unit(const uint8_t* unit, const float* x, int64_t ldx, float* y) {
  using V = typename D::V;
  constexpr int kVectors = static_cast<int>(kStripColumns) / D::kLanes, kChains = D::Chains(kRows);
  const uint8_t* const codes = unit + kFp8Info.ScaleBytes();
  V s[4][kRows][kVectors];
#pragma GCC unroll 4
  for (int first = 0; first < 4; first += kChains) {
#pragma GCC unroll 4
    for (int chain = first; chain < first + kChains; ++chain) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) s[chain][r][v] = D::Zero();
      }
    }
    for (int64_t k = 0; k < kBlockInputs; k += 4) {
#pragma GCC unroll 4
      for (int chain = first; chain < first + kChains; chain += D::kLines) {
        V w[D::kLines][kVectors];
        D::Decode(codes + (k + chain) * kStripColumns, w);
#pragma GCC unroll 2
        for (int line = 0; line < D::kLines; ++line) {
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            const V value = D::Set(x[r * ldx + k + chain + line]);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) {
              s[chain + line][r][v] = D::Fma(value, w[line][v], s[chain + line][r][v]);
            }
          }
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const V scale = D::Mul(D::Load(reinterpret_cast<const float*>(unit) + v * D::kLanes), D::Set(256.0f));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      float* const at = y + r * kColumnBlock + v * D::kLanes;
      const V t = D::Add(D::Add(s[0][r][v], s[1][r][v]), D::Add(s[2][r][v], s[3][r][v]));
      D::Store(at, D::Fma(t, scale, D::Load(at)));
    }
  }
}

// Units of one strip times a tile of rows.
struct Fp8Tile {
  const uint8_t* w;  // the first unit
  int64_t units;
  const float* x;  // the tile's first row
  int64_t ldx;
  float* y;   // [rows][kColumnBlock]
  bool ask;   // the weights come from memory
};

template <typename D, int kRows>
[[gnu::noinline]] void Fp8Rows(const Fp8Tile& tile) {
  StreamAhead<kToL1> ahead(tile.w + kFp8Ahead);
  for (int64_t u = 0; u < tile.units; ++u) {
    if (tile.ask) {
      for (int64_t at = 0; at < kFp8Info.UnitBytes(); at += 2 * kLine) ahead.AskPair();
    }
    AddFp8Unit<D, kRows>(tile.w + u * kFp8Info.UnitBytes(), tile.x + u * kBlockInputs, tile.ldx, tile.y);
  }
}

template <typename D>
void Fp8Strip(int64_t rows, const Fp8Tile& tile) {
  if constexpr (D::kTileRows >= 6) {
    if (rows == 6) return Fp8Rows<D, 6>(tile);
  }
  switch (rows) {
    case 1: return Fp8Rows<D, 1>(tile);
    case 2: return Fp8Rows<D, 2>(tile);
    case 3: return Fp8Rows<D, 3>(tile);
    case 4: return Fp8Rows<D, 4>(tile);
    default: return Fp8Rows<D, 5>(tile);
  }
}

// The inputs `part` of the rows `panel` in FP32; behind k zeros.
template <typename D>
void WidenInputs(const MatmulArgs& args, Range panel, Range part, float* x, int64_t ldx) {
  const int64_t k = args.weight->k;
  for (int64_t r = 0; r < panel.size(); ++r) {
    const BF16* const from = args.x + (panel.begin + r) * args.ldx + part.begin;
    float* const to = x + r * ldx;
    const int64_t count = std::min(part.size(), k - part.begin), whole = count / D::kLanes * D::kLanes;
    for (int64_t i = 0; i < whole; i += D::kLanes) D::Store(to + i, D::Widen(from + i));
    for (int64_t i = whole; i < part.size(); ++i) {
      to[i] = i < count ? __builtin_bit_cast(float, static_cast<uint32_t>(from[i].bits) << 16) : 0.0f;
    }
  }
}

// Rows `panel` times the columns [column, column + width).
template <typename D>
void Fp8Panel(const MatmulArgs& args, Range panel, int64_t column, int64_t width, float* x, float* y) {
  const PackedMatrix& weight = *args.weight;
  const int64_t tiles = (panel.size() + D::kTileRows - 1) / D::kTileRows;
  const int64_t held = std::min(kFp8Inputs / panel.size() / kBlockInputs * kBlockInputs, weight.k_padded);
  for (int64_t i = 0; i < panel.size() * kColumnBlock; ++i) y[i] = 0;
  for (int64_t k = 0; k < weight.k_padded; k += held) {
    const Range part = {k, std::min(k + held, weight.k_padded)};
    WidenInputs<D>(args, panel, part, x, held + kFp8Pad);
    for (int64_t c = 0; c < width; c += kStripColumns) {
      const BlockStrip& strip = weight.strips[(column + c) / kStripColumns];
      if (strip.format == BlockFormat::kNone) continue;
      for (int64_t i = 0; i < tiles; ++i) {
        // Nearly equal heights.
        const int64_t first = panel.size() * i / tiles, end = panel.size() * (i + 1) / tiles;
        Fp8Strip<D>(end - first, {.w = static_cast<const uint8_t*>(weight.data) + strip.offset +
                                       part.begin / kBlockInputs * kFp8Info.UnitBytes(),
                                  .units = part.size() / kBlockInputs,
                                  .x = x + first * (held + kFp8Pad),
                                  .ldx = held + kFp8Pad,
                                  .y = y + first * kColumnBlock + c,
                                  .ask = i == 0});
      }
    }
  }
  for (int64_t r = 0; r < panel.size(); ++r) {
    FinishRow<typename D::Simd>(args, panel.begin + r, column, width, y + r * kColumnBlock);
  }
}

template <typename D>
void Fp8Matmul(const MatmulArgs& args, Share share) {
  const Range range = args.weight->ColumnRange(share.index);
  alignas(64) float x[kFp8Inputs + kFp8PanelRows * kFp8Pad], y[kFp8PanelRows * kColumnBlock];
  const int64_t panels = (args.rows + kFp8PanelRows - 1) / kFp8PanelRows;
  for (int64_t i = 0; i < panels; ++i) {
    const Range panel = {args.rows * i / panels, args.rows * (i + 1) / panels};
    for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
      Fp8Panel<D>(args, panel, column, std::min(kColumnBlock, range.end - column), x, y);
    }
  }
}

}  // namespace tiercel::kernels::simd
