// Matmul of weights of a block format (tensor/block_format.h; ops.h, BlockMatmulArgs), once for all vector widths.
// `D` is an ISA's arithmetic:
//   I, F                  registers of kLanes INT32 and FP32 values, one a column
//   kTileRows             rows of the register tile
//   Simd                  what the epilogue is written in, of any width
//   Load, And, AddBits(a, b, mask) = a | (b & mask), Shift<n>: of bytes; to the left, or by a negative n to the
//     right; the bits that cross bytes are masked by who uses it
//   Dot<kBits>(sum, codes, x): sum + the products of each lane's four codes of so many bits and x's four values
//   kCentersBytes         Dot<8> has taken the zero point, 128, from the codes
//   Zero, Broadcast(int), ShiftLeft<n>, ToFloat(I), SetF(float), Fma, Mul, Store(float*, F): of lanes
//   Halfs(p), Bytes(p), SignedBytes(p): kLanes values widened to FP32;  SixBits<part, odd>(low, high): of kSubMin the
//     scales' (part 0) or the minima's (1) six bits, of an odd group or an even one, from their bytes
// Where a register holds two rows (kTakesPairs is there), I and F have kLanes values of each:
//   W                     codes of two quads, as Weights<kBits>(first, second) puts them beside each other
//   Dot(sum, W, x, next)  of x's eight values and those of the second row, `next` bytes behind
//   Broadcast, SetF: of two rows, (p, next);  Store(float*, next, F)
// A strip's codes are unpacked once for a tile of rows: rows come in panels that stay in L2, the weights once a panel
// from memory and then from L1 or L2.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/ops.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/row_pairs.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::simd {

// A panel's blocks are at most 512 KiB of a second-level cache of 1 MiB or more, and its sums 32 KiB of stack.
inline constexpr int64_t kBlockPanelRows = 128;
inline constexpr int64_t kBlockPanelBytes = 512 * 1024;
// Weights are asked for at least so far ahead, into the second-level cache: a first-level one has too few requests on their
// way at a time (Zen 4 with fast memory: up to 1.5 times the time for 8 rows).
inline constexpr int64_t kBlockAhead = 4096;
// At most so far, where several tiles pass over a strip and the next one comes meanwhile: beside a panel in that cache.
inline constexpr int64_t kBlockMostAhead = 128 * 1024;
// By so many: of more, memory has time enough beside the first ones, and each request costs some.
inline constexpr int64_t kAskingTiles = 2;

// One strip times a tile of rows.
struct StripTile {
  const uint8_t* w;         // the strip
  const QuantizedBlock* x;  // the tile's first row
  int64_t ldx;
  int64_t blocks;  // of a row
  float* sums;     // [rows][kColumnBlock]
  StreamAhead<kToL2>* ahead;  // weights to ask for,
  int64_t pace;               // for each block
};

// The scales and minima of one vector of a strip's columns, those from `first` on.
template <typename D, BlockFormat kFormat, int kFirst>
struct StripScales {
  static constexpr BlockFormatInfo kInfo = InfoOf(kFormat);
  static constexpr bool kHasMin = kInfo.scales != BlockScales::kHalf && kInfo.scales != BlockScales::kSub;
  using F = typename D::F;

  // Of the unit's g-th group.
  template <bool kOdd>
  [[gnu::always_inline]] static F Scale(const uint8_t* unit, int64_t g) {
    constexpr int64_t kColumns = kStripColumns;
    if constexpr (kInfo.scales == BlockScales::kSubMin) {
      return D::Mul(D::Halfs(unit + 2 * kFirst), D::template SixBits<0, kOdd>(Low(unit, g), High(unit, g)));
    } else if constexpr (kInfo.scales == BlockScales::kSub) {
      return D::Mul(D::Halfs(unit + 2 * kFirst), D::SignedBytes(unit + 2 * kColumns + g * kColumns + kFirst));
    } else {
      return D::Halfs(unit + 2 * (g * kColumns + kFirst));
    }
  }
  template <bool kOdd>
  [[gnu::always_inline]] static F Min(const uint8_t* unit, int64_t g) {
    constexpr int64_t kColumns = kStripColumns, kGroups = kInfo.groups();
    if constexpr (kInfo.scales == BlockScales::kSubMin) {
      return D::Mul(D::Halfs(unit + 2 * (kColumns + kFirst)),
                    D::template SixBits<1, kOdd>(Low(unit, g), High(unit, g)));
    } else if constexpr (kInfo.scales == BlockScales::kHalfZero) {
      return D::Mul(Scale<kOdd>(unit, g), D::Bytes(unit + (2 * kGroups + g) * kColumns + kFirst));
    } else {
      return D::Mul(D::SetF(-1.0f), D::Halfs(unit + 2 * ((kGroups + g) * kColumns + kFirst)));
    }
  }

 private:
  [[gnu::always_inline]] static const uint8_t* Low(const uint8_t* unit, int64_t g) {
    return unit + (4 + g) * kStripColumns + kFirst;
  }
  [[gnu::always_inline]] static const uint8_t* High(const uint8_t* unit, int64_t g) {
    return unit + (4 + kInfo.groups() + g / 2) * kStripColumns + kFirst;
  }
};

// Of a row, or of a pair whose second row lies `next` bytes behind. (Up to AddBlock a pair counts as one of kRows.)
template <typename D>
[[gnu::always_inline]] inline typename D::I Broadcast(const int32_t* p, int64_t next) {
  if constexpr (TakesPairs<D>) return D::Broadcast(p, next);
  else return D::Broadcast(p);
}
template <typename D>
[[gnu::always_inline]] inline typename D::F ScaleOf(const QuantizedBlock* x, int64_t next) {
  if constexpr (TakesPairs<D>) return D::SetF(&x->scale, next);
  else return D::SetF(x->scale);
}

constexpr int Log2(int x) { return x <= 1 ? 0 : 1 + Log2(x / 2); }

// The sums I_g of kRows rows begin with what their zero point takes away.
template <typename D, int kZero>
[[gnu::always_inline]] inline typename D::I BeginSum(const int32_t* minus_sum, int64_t next) {
  if constexpr (kZero == 0) return D::Zero();
  return D::template ShiftLeft<Log2(kZero)>(Broadcast<D>(minus_sum, next));
}

// Adds the products of a quad, or of two, and of x's inputs from `at` on to the sums of each row.
template <typename D, int kBits, int kRows, typename Codes>
[[gnu::always_inline]] inline void AddQuad(Codes codes, const int8_t* const (&x)[kRows], int at,
                                           typename D::I (&sum)[kRows]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sum[r] = D::template Dot<kBits>(sum[r], codes, x[r] + at);
}
template <typename D, int kBits, int kRows, typename Codes>
[[gnu::always_inline]] inline void AddQuads(Codes first, Codes second, const int8_t* const (&x)[kRows],
                                            const int64_t (&next)[kRows], int at, typename D::I (&sum)[kRows]) {
  if constexpr (TakesPairs<D>) {
    const typename D::W w = D::template Weights<kBits>(first, second);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r] = D::Dot(sum[r], w, x[r] + at, next[r]);
  } else {
    AddQuad<D, kBits>(first, x, at, sum);
    AddQuad<D, kBits>(second, x, at + static_cast<int>(kQuad), sum);
  }
}

// Adds the products of the quads [kQuadBegin, kQuadEnd) of 32 inputs to the sums of each row.
template <typename D, int kBits, int kFirst, int kRows, int kQuadBegin, int kQuadEnd>
[[gnu::always_inline]] inline void AddCodes(const uint8_t* codes, const int8_t* const (&x)[kRows],
                                            const int64_t (&next)[kRows], typename D::I (&sum)[kRows]) {
  constexpr int kByte = kFirst * static_cast<int>(kQuad), quad = kQuadBegin;
  constexpr int kNext = quad + (kBits == 8 && !TakesPairs<D> ? 1 : 2), at = quad * static_cast<int>(kQuad);
  if constexpr (kBits == 8) {
    const auto first = D::Load(codes + quad * kCodeLine + kByte);
    if constexpr (TakesPairs<D>) {
      AddQuads<D, kBits>(first, D::Load(codes + (quad + 1) * kCodeLine + kByte), x, next, at, sum);
    } else {
      AddQuad<D, kBits>(first, x, at, sum);
    }
  } else {
    const auto line = D::Load(codes + quad / 2 * kCodeLine + kByte);
    auto low = D::And(line, D::Set8(15));
    auto high = D::And(D::template Shift<-4>(line), D::Set8(15));
    if constexpr (kBits == 5) {
      const auto fifth = D::Load(codes + 4 * kCodeLine + kByte);
      low = D::AddBits(low, D::template Shift<4 - quad>(fifth), D::Set8(0x10));
      high = D::AddBits(high, D::template Shift<3 - quad>(fifth), D::Set8(0x10));
    } else if constexpr (kBits == 6) {
      const auto two = D::Load(codes + (4 + quad / 4) * kCodeLine + kByte);
      low = D::AddBits(low, D::template Shift<4 - quad % 4 * 2>(two), D::Set8(0x30));
      high = D::AddBits(high, D::template Shift<2 - quad % 4 * 2>(two), D::Set8(0x30));
    }
    AddQuads<D, kBits>(low, high, x, next, at, sum);
  }
  if constexpr (kNext < kQuadEnd) AddCodes<D, kBits, kFirst, kRows, kNext, kQuadEnd>(codes, x, next, sum);
}

// t of ops.h, of one vector of columns from kFirst on: adds a group's sums, the unit's g-th; the block's first one
// begins it. minus_sum(r): of the group.
template <typename D, BlockFormat kFormat, int kFirst, bool kBegins, bool kOdd, int kRows, typename MinusSum>
[[gnu::always_inline]] inline void AddGroup(const uint8_t* unit, int64_t g, const typename D::I (&sum)[kRows],
                                            const int64_t (&next)[kRows], MinusSum&& minus_sum,
                                            typename D::F (&t)[kRows]) {
  using F = typename D::F;
  using Scales = StripScales<D, kFormat, kFirst>;
  const F scale = Scales::template Scale<kOdd>(unit, g);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const F product = D::ToFloat(sum[r]);
    t[r] = kBegins ? D::Mul(product, scale) : D::Fma(product, scale, t[r]);  // a product is its sum with 0
  }
  if constexpr (Scales::kHasMin) {
    const F min = Scales::template Min<kOdd>(unit, g);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) t[r] = D::Fma(D::ToFloat(Broadcast<D>(minus_sum(r), next[r])), min, t[r]);
  }
}

// The part kPart of a block's four, 32 inputs, whose codes are those, and of t; g is the unit's group that the block
// begins with.
template <typename D, BlockFormat kFormat, int kFirst, int kPart, int kRows>
[[gnu::always_inline]] inline void AddPart(const uint8_t* unit, const uint8_t* codes, int64_t g,
                                           const QuantizedBlock* const (&x)[kRows], const int64_t (&next)[kRows],
                                           typename D::I (&sum)[kRows], typename D::F (&t)[kRows]) {
  constexpr BlockFormatInfo kInfo = InfoOf(kFormat);
  constexpr int kBits = kInfo.bits, kGroup = static_cast<int>(kInfo.group);
  static_assert(kBits < 8 || kInfo.zero == 128);
  constexpr int kZero = kBits == 8 && D::kCentersBytes ? 0 : kInfo.zero;
  const int8_t* q[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) q[r] = x[r]->q + kPart * kCodeGroup;
  const auto begin = [&](auto&& minus_sum) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r] = BeginSum<D, kZero>(minus_sum(r), next[r]);
  };
  if constexpr (kGroup == 16) {
    constexpr bool kFirstOfAll = kPart == 0;
    const auto half0 = [&](int r) __attribute__((always_inline)) { return &x[r]->minus_sum16[2 * kPart]; };
    const auto half1 = [&](int r) __attribute__((always_inline)) { return &x[r]->minus_sum16[2 * kPart + 1]; };
    begin(half0);
    AddCodes<D, kBits, kFirst, kRows, 0, 4>(codes, q, next, sum);
    AddGroup<D, kFormat, kFirst, kFirstOfAll, false, kRows>(unit, g + 2 * kPart, sum, next, half0, t);
    begin(half1);
    AddCodes<D, kBits, kFirst, kRows, 4, 8>(codes, q, next, sum);
    AddGroup<D, kFormat, kFirst, false, true, kRows>(unit, g + 2 * kPart + 1, sum, next, half1, t);
  } else if constexpr (kGroup == 32) {
    const auto of_32 = [&](int r) __attribute__((always_inline)) { return &x[r]->minus_sum32[kPart]; };
    begin(of_32);
    AddCodes<D, kBits, kFirst, kRows, 0, 8>(codes, q, next, sum);
    AddGroup<D, kFormat, kFirst, kPart == 0, kPart % 2 == 1, kRows>(unit, g + kPart, sum, next, of_32, t);
  } else if constexpr (kGroup == 64) {
    constexpr int kHalf = kPart / 2;
    const auto of_64 = [&](int r) __attribute__((always_inline)) { return &x[r]->minus_sum64[kHalf]; };
    if constexpr (kPart % 2 == 0) begin(of_64);
    AddCodes<D, kBits, kFirst, kRows, 0, 8>(codes, q, next, sum);
    if constexpr (kPart % 2 == 1) {
      AddGroup<D, kFormat, kFirst, kHalf == 0, kHalf == 1, kRows>(unit, g + kHalf, sum, next, of_64, t);
    }
  } else {
    static_assert(kGroup == kBlockInputs);
    const auto all = [&](int r) __attribute__((always_inline)) { return &x[r]->minus_sum; };
    if constexpr (kPart == 0) begin(all);
    AddCodes<D, kBits, kFirst, kRows, 0, 8>(codes, q, next, sum);
    if constexpr (kPart == 3) AddGroup<D, kFormat, kFirst, true, false, kRows>(unit, g, sum, next, all, t);
  }
}

// y of ops.h, of one vector of columns from kFirst on: adds the block `b` of each row, the unit's i-th.
template <typename D, BlockFormat kFormat, int kFirst, int kRows>
[[gnu::always_inline]] inline void AddBlock(const uint8_t* unit, const StripTile& tile, int64_t b, int64_t i,
                                            typename D::F (&total)[HeightOf<D>(kRows)]) {
  constexpr BlockFormatInfo kInfo = InfoOf(kFormat);
  constexpr int64_t kCodes = kInfo.CodeBytes();
  const int64_t g = i * (kBlockInputs / kInfo.group);
  const uint8_t* codes = unit + kInfo.ScaleBytes() + i * (kBlockInputs / kCodeGroup) * kCodes;
  constexpr int kHeight = HeightOf<D>(kRows), kTogether = TakesPairs<D> ? 2 : 1;
  const QuantizedBlock* x[kHeight];
  int64_t next[kHeight];
#pragma GCC unroll 8
  for (int r = 0; r < kHeight; ++r) {
    x[r] = tile.x + kTogether * r * tile.ldx + b;
    next[r] = kTogether * r + 1 < kRows ? tile.ldx * static_cast<int64_t>(sizeof(QuantizedBlock)) : 0;
  }
  typename D::I sum[kHeight];
  typename D::F t[kHeight];
  AddPart<D, kFormat, kFirst, 0>(unit, codes, g, x, next, sum, t);
  AddPart<D, kFormat, kFirst, 1>(unit, codes + kCodes, g, x, next, sum, t);
  AddPart<D, kFormat, kFirst, 2>(unit, codes + 2 * kCodes, g, x, next, sum, t);
  AddPart<D, kFormat, kFirst, 3>(unit, codes + 3 * kCodes, g, x, next, sum, t);
#pragma GCC unroll 8
  for (int r = 0; r < kHeight; ++r) total[r] = D::Fma(t[r], ScaleOf<D>(x[r], next[r]), total[r]);
}

// The same of all vectors, from kVector on.
template <typename D, BlockFormat kFormat, int kRows, int kVector = 0, int kVectors>
[[gnu::always_inline]] inline void AddBlocks(const uint8_t* unit, const StripTile& tile, int64_t b, int64_t i,
                                             typename D::F (&total)[kVectors][HeightOf<D>(kRows)]) {
  AddBlock<D, kFormat, kVector * D::kLanes, kRows>(unit, tile, b, i, total[kVector]);
  if constexpr (kVector + 1 < kVectors) AddBlocks<D, kFormat, kRows, kVector + 1>(unit, tile, b, i, total);
}

template <typename D, BlockFormat kFormat, int kRows>
[[gnu::noinline]] void StripRows(const StripTile& tile_in) {
  using F = typename D::F;
  constexpr BlockFormatInfo kInfo = InfoOf(kFormat);
  constexpr int kVectors = static_cast<int>(kStripColumns) / D::kLanes;
  constexpr int64_t kBlocksPerUnit = kInfo.unit / kBlockInputs;
  const StripTile tile = tile_in;
  constexpr int kHeight = HeightOf<D>(kRows);
  F total[kVectors][kHeight];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 8
    for (int r = 0; r < kHeight; ++r) total[v][r] = D::SetF(0.0f);
  }
  const uint8_t* unit = tile.w;
  StreamAhead<kToL2> ahead = *tile.ahead;
  for (int64_t b = 0; b < tile.blocks; unit += kInfo.UnitBytes()) {
#pragma GCC unroll 2
    for (int64_t i = 0; i < kBlocksPerUnit; ++i, ++b) {
      ahead.Ask(tile.pace);
      AddBlocks<D, kFormat, kRows>(unit, tile, b, i, total);
    }
  }
  *tile.ahead = ahead;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 8
    for (int r = 0; r < kHeight; ++r) {
      if constexpr (TakesPairs<D>) {
        D::Store(tile.sums + 2 * r * kColumnBlock + v * D::kLanes, 2 * r + 1 < kRows ? kColumnBlock : 0, total[v][r]);
      } else {
        D::Store(tile.sums + r * kColumnBlock + v * D::kLanes, total[v][r]);
      }
    }
  }
}

template <typename D, BlockFormat kFormat>
void StripOfFormat(int64_t rows, const StripTile& tile) {
  if constexpr (D::kTileRows >= 8) {
    if (rows == 8) return StripRows<D, kFormat, 8>(tile);
    if (rows == 7) return StripRows<D, kFormat, 7>(tile);
  }
  if constexpr (D::kTileRows >= 6) {
    if (rows == 6) return StripRows<D, kFormat, 6>(tile);
    if (rows == 5) return StripRows<D, kFormat, 5>(tile);
  }
  switch (rows) {
    case 1: return StripRows<D, kFormat, 1>(tile);
    case 2: return StripRows<D, kFormat, 2>(tile);
    case 3: return StripRows<D, kFormat, 3>(tile);
    default: return StripRows<D, kFormat, 4>(tile);
  }
}

template <typename D>
void Strip(BlockFormat format, int64_t rows, const StripTile& tile) {
  switch (format) {
    case BlockFormat::kNone:
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < kStripColumns; ++c) tile.sums[r * kColumnBlock + c] = 0;
      }
      return;
    case BlockFormat::kQ4_0: return StripOfFormat<D, BlockFormat::kQ4_0>(rows, tile);
    case BlockFormat::kQ4_1: return StripOfFormat<D, BlockFormat::kQ4_1>(rows, tile);
    case BlockFormat::kQ5_0: return StripOfFormat<D, BlockFormat::kQ5_0>(rows, tile);
    case BlockFormat::kQ5_1: return StripOfFormat<D, BlockFormat::kQ5_1>(rows, tile);
    case BlockFormat::kQ8_0: return StripOfFormat<D, BlockFormat::kQ8_0>(rows, tile);
    case BlockFormat::kQ4_K: return StripOfFormat<D, BlockFormat::kQ4_K>(rows, tile);
    case BlockFormat::kQ5_K: return StripOfFormat<D, BlockFormat::kQ5_K>(rows, tile);
    case BlockFormat::kQ6_K: return StripOfFormat<D, BlockFormat::kQ6_K>(rows, tile);
    case BlockFormat::kI4: return StripOfFormat<D, BlockFormat::kI4>(rows, tile);
    case BlockFormat::kI4_64: return StripOfFormat<D, BlockFormat::kI4_64>(rows, tile);
    case BlockFormat::kU4: return StripOfFormat<D, BlockFormat::kU4>(rows, tile);
    case BlockFormat::kU4_64: return StripOfFormat<D, BlockFormat::kU4_64>(rows, tile);
    case BlockFormat::kU4_32: return StripOfFormat<D, BlockFormat::kU4_32>(rows, tile);
    case BlockFormat::kF8: return;  // fp8_matmul's
  }
}

// Asks for a worker's strips, which lie one behind the other, as tiles of rows pass over them.
class StripsAhead {
 public:
  explicit StripsAhead(const uint8_t* first) : stream(first + kBlockAhead) {}

  // Before so many tiles pass over a strip: what of it has not been asked for comes with the first, and what follows
  // evenly.
  void BeginStrip(int64_t strip_bytes, int64_t tiles, int64_t blocks) {
    if (strip_bytes == 0) return;
    const int64_t asking = std::min(tiles, kAskingTiles);
    const int64_t next_lead = asking == 1 ? kBlockAhead : std::clamp(strip_bytes, kBlockAhead, kBlockMostAhead);
    const auto pace = [&](int64_t bytes) { return std::max<int64_t>(0, bytes) * kPace / (2 * kLine * blocks); };
    const int64_t rest = strip_bytes - std::exchange(lead_, next_lead);
    first_pace_ = pace(rest + next_lead / asking);
    next_pace_ = pace(next_lead / asking);
  }
  int64_t Pace(int64_t tile) const { return tile == 0 ? first_pace_ : tile < kAskingTiles ? next_pace_ : 0; }

  StreamAhead<kToL2> stream;

 private:
  int64_t lead_ = kBlockAhead;
  int64_t first_pace_ = 0, next_pace_ = 0;
};

// Rows [panel.begin, panel.end) of one block of columns.
template <typename D>
void BlockPanel(const BlockMatmulArgs& args, Range panel, int64_t column, int64_t width, StripsAhead* ahead,
                float* sums) {
  const PackedMatrix& weight = *args.weight;
  const int64_t tiles = (panel.size() + D::kTileRows - 1) / D::kTileRows;
  StripTile tile;
  tile.ldx = args.ldx;
  tile.blocks = weight.k_padded / kBlockInputs;
  tile.ahead = &ahead->stream;
  for (int64_t c = 0; c < width; c += kStripColumns) {
    const BlockStrip& strip = weight.strips[(column + c) / kStripColumns];
    tile.w = static_cast<const uint8_t*>(weight.data) + strip.offset;
    ahead->BeginStrip(StripBytes(strip.format, weight.k_padded), tiles, tile.blocks);
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t first = TileBegin<D>(i, tiles, panel.size()), end = TileBegin<D>(i + 1, tiles, panel.size());
      tile.x = args.x + (panel.begin + first) * args.ldx;
      tile.sums = sums + first * kColumnBlock + c;
      tile.pace = ahead->Pace(i);
      Strip<D>(strip.format, end - first, tile);
    }
  }
  for (int64_t r = 0; r < panel.size(); ++r) {
    if (r + kRowsAhead < panel.size()) AskForRow(args, panel.begin + r + kRowsAhead, column, width);
    FinishRow<typename D::Simd>(args, panel.begin + r, column, width, sums + r * kColumnBlock);
  }
}

template <typename D>
void BlockMatmul(const BlockMatmulArgs& args, Share share) {
  const Range range = args.weight->ColumnRange(share.index);
  const uint8_t* const first = static_cast<const uint8_t*>(args.weight->data) + args.weight->Offset(range.begin);
  alignas(64) float sums[kBlockPanelRows * kColumnBlock];
  const int64_t row_bytes = args.weight->k_padded / kBlockInputs * static_cast<int64_t>(sizeof(QuantizedBlock));
  const int64_t fit = kBlockPanelBytes / row_bytes / D::kTileRows * D::kTileRows;
  const int64_t rows = std::clamp<int64_t>(fit, D::kTileRows, kBlockPanelRows);
  for (int64_t row = 0; row < args.rows; row += rows) {
    const Range panel = {row, std::min(args.rows, row + rows)};
    StripsAhead ahead(first);
    for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
      BlockPanel<D>(args, panel, column, std::min(kColumnBlock, range.end - column), &ahead, sums);
    }
  }
}

}  // namespace tiercel::kernels::simd
