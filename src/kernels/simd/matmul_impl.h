// Matmul of weights that lie in blocks of columns (tensor/packed_matrix.h), once for all instructions. `P` is a product:
//   Args, Sum                MatmulArgs and float, or QuantMatmulArgs and int32_t
//   V                        a register of kLanes sums, one a column
//   W                        a register of kLanes times four bytes of weights: four of INT8, a pair of BF16
//   X                        what Dot multiplies: a register of kLanes operands of four bytes
//   kParts                   operands that four bytes make: 1, which are W itself, or 2 that Part takes out of it
//   kTileRows × kTileVectors the register tile for many rows
//   Zero, Load, Store: of sums;  LoadWeights;  Broadcast: one operand to every lane;  Dot;  FinishRow
// and, where operands are what lies in memory,
//   Chunk(steps)             bytes of k that all rows take, in so many steps over the weights, before the next ones
// or, where they have to be unpacked,
//   kUnpackRows              from so many rows on the weights are unpacked once for all tiles of rows
//   Part<part>(W), LoadOperands, Unpack: as operands, in a register, from memory and to memory;  UnpackX: of x
// A Dot may take two rows of x and two fours of k (kTakesPairs is there, and at least two rows). V are the sums of two rows,
// W and X operands of eight bytes, kParts is 1, and to unpack is to put fours, or rows, beside each other:
//   Load, Store, LoadWeights, LoadOperands, Unpack, UnpackX: also take the bytes, of sums the numbers, from the first row
//                            or four to the second;  LoadX in the place of Broadcast;  no Part
// Every output element is one chain of Dot over k ascending, whose sum is kept as it is between two chunks: neither
// chunks nor tiles nor the number of rows change a bit.
//
// Weights that are multiplied as they are, or taken apart in registers, pass in whole blocks of columns, which are linear
// streams: each chunk of k is in L1 or L2 while all tiles of rows pass. Where they are unpacked, so is x, once for a part
// of several blocks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/round_up.h"
#include "kernels/ops.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/row_pairs.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::simd {

inline constexpr int64_t kLaneBytes = 4;
// Rows go in panels of nearly equal height: at most whole tiles of 6 and of 12.
inline constexpr int64_t kPanelRows = 132;
// One step over the weights is bound by memory: so far ahead in the stream it asks for more.
inline constexpr int64_t kStepAhead = 4096;
// Weights come to L1 so many fours ahead: from L2, or from memory where what was asked for before was dropped, a latency
// of 330 cycles (24 products a four) earlier.
inline constexpr int64_t kFoursAhead = 16;
// A strip of columns, as wide as the tile, × a chunk of k stays in an L1 of 32 KiB while all rows of a panel pass, a tile's
// x beside it (6 KiB). A tile's sums are loaded and stored once in 1536 cycles of two FMA ports.
inline constexpr int64_t kUnpackedBytes = 16 << 10;
// x is unpacked for so many columns, whose sums (279 KiB) are in L2 beside it.
inline constexpr int64_t kPartColumns = 512;
// All of x in a part of L2, where it fits: unpacked once, and not for every part of the columns.
inline constexpr int64_t kUnpackedXBytes = 256 << 10;

template <typename P>
concept Unpacks = requires { P::kUnpackRows; };

// Memory of one worker's matmul, on its stack. Rows of sums are a line apart from a power of two.
template <typename P, bool kUnpacks = Unpacks<P>>
struct MatmulScratch {
  static constexpr int64_t kSumsStride = kColumnBlock;
  alignas(64) typename P::Sum sums[kPanelRows * kSumsStride];  // 33 KiB
};
template <typename P>
struct MatmulScratch<P, true> {
  static constexpr int64_t kSumsStride = kPartColumns + kColumnGroup;
  alignas(64) typename P::Sum sums[kPanelRows * kSumsStride];
  alignas(64) char x[kUnpackedXBytes];    // [chunk][row][operand]
  alignas(64) char w[kUnpackedBytes];     // [four][part][column of the strip]
};

template <typename P>
class MatmulNest {
 public:
  explicit MatmulNest(const typename P::Args& args)
      : args_(args),
        k_bytes_(args.weight->k_padded * static_cast<int64_t>(sizeof(*args.x))),  // x and the weights are as wide
        panels_((args.rows + kPanelRows - 1) / kPanelRows) {}

  void Run(Range columns) {
    if (args_.rows == 0) return;
    end_ = columns.end;
    Plan();
    for (int64_t column = columns.begin; column < columns.end; column += part_columns_) {
      const Range part = {column, std::min(columns.end, column + part_columns_)};
      for (int64_t panel = 0; panel < panels_; ++panel) {
        const Range rows = {args_.rows * panel / panels_, args_.rows * (panel + 1) / panels_};
        Sums(rows, part, panel + 1 < panels_ ? part.begin : part.end);
        for (int64_t r = 0; r < rows.size(); ++r) {
          if (r + kRowsAhead < rows.size()) AskForRow(args_, rows.begin + r + kRowsAhead, part.begin, part.size());
          P::FinishRow(args_, rows.begin + r, part.begin, part.size(), scratch_.sums + r * kSumsStride);
        }
      }
    }
  }

 private:
  using Sum = typename P::Sum;
  using Scratch = MatmulScratch<P>;
  static constexpr int64_t kSumsStride = Scratch::kSumsStride;
  static constexpr bool kUnpacks = Unpacks<P>;
  static constexpr bool kPairs = TakesPairs<P>;
  static constexpr int kTogether = kPairs ? 2 : 1;  // rows of x and fours of k that a Dot takes
  static constexpr int64_t kStrip = P::kTileVectors * P::kLanes;
  static constexpr int64_t kSubtiles = std::max<int64_t>(1, kColumnBlock / kStrip);
  static constexpr int kGroupVectors = kColumnGroup / P::kLanes;
  static constexpr int64_t kUnpackedChunk = kUnpackedBytes / (kStrip * P::kParts);  // bytes of k
  static_assert(kStrip % kColumnGroup == 0 && kColumnBlock % kStrip == 0);

  // A register tile's place: rows × at most one block of columns, over one chunk of k.
  struct Place {
    const char* x;  // its first row at the chunk's k
    int64_t ldx;    // bytes
    const char* w;  // the weights of the tile's first column at the chunk's k
    int64_t w_stride;  // bytes from four bytes of k to the next
    int64_t fours;     // of the chunk
    Sum* sums;         // [rows][kSumsStride]
    bool first;        // the sums begin here
    StreamAhead<kToL2>* ahead;  // weights to ask for:
    int64_t pace;               // for each four bytes of k
  };

  int64_t RowBytes() const { return args_.ldx * static_cast<int64_t>(sizeof(*args_.x)); }  // from a row of x to the next
  int64_t WidthOf(int64_t column) const { return std::min(kColumnBlock, end_ - column); }
  // The packed block of columns from `column` on, from byte k on.
  const char* Weights(int64_t column, int64_t k) const {
    return static_cast<const char*>(args_.weight->data) + args_.weight->Offset(column) + k * WidthOf(column);
  }
  static constexpr int64_t TilesOf(int64_t rows) { return (rows + P::kTileRows - 1) / P::kTileRows; }
  // With the place beside an odd last row of pairs.
  static constexpr int64_t UnpackedRows(int64_t rows) { return RoundUp(rows, kTogether); }

  void Plan() {
    const int64_t height = std::min(args_.rows, kPanelRows);
    // How often a chunk of the weights is walked over.
    const int64_t steps = args_.rows == 1 ? 1 : TilesOf(height) * kSubtiles;
    one_step_ = steps == 1;
    chunk_ = one_step_ ? k_bytes_ : ChunkOf(steps);
    if constexpr (kUnpacks) {
      unpacks_ = args_.rows >= P::kUnpackRows;
      const int64_t chunks = (k_bytes_ + chunk_ - 1) / chunk_;
      all_of_x_ = panels_ == 1 && UnpackedRows(args_.rows) * P::kParts * chunks * chunk_ <= kUnpackedXBytes;
      if (all_of_x_) {
        for (int64_t k = 0; k < k_bytes_; k += chunk_) {
          UnpackX({0, args_.rows}, k, scratch_.x + k * UnpackedRows(args_.rows) * P::kParts);
        }
      } else {
        chunk_ = std::min(chunk_, kUnpackedXBytes / P::kParts);  // of one row
      }
      if (unpacks_ && !all_of_x_) part_columns_ = kPartColumns;
    }
  }

  static constexpr int64_t ChunkOf([[maybe_unused]] int64_t steps) {
    if constexpr (kUnpacks) return kUnpackedChunk;
    else return P::Chunk(steps);
  }
  static_assert(!kUnpacks || kPanelRows * kUnpackedChunk * P::kParts <= kUnpackedXBytes);

  // to = [row][chunk] of x's operands from byte k on.
  void UnpackX(Range rows, int64_t k, char* to) {
    const int64_t count = std::min(chunk_, k_bytes_ - k);
    for (int64_t row = rows.begin; row < rows.end; row += kTogether, to += kTogether * chunk_ * P::kParts) {
      const char* x = reinterpret_cast<const char*>(args_.x + row * args_.ldx) + k;
      if constexpr (kPairs) P::UnpackX(x, row + 1 < rows.end ? RowBytes() : 0, count, to);
      else P::UnpackX(x, count, to);
    }
  }

  // The sums of a panel and a part of the columns; those from `next` on follow.
  void Sums(Range rows, Range part, int64_t next) {
    StreamAhead<kToL2> ahead(Weights(part.begin, 0) + (one_step_ ? kStepAhead : chunk_ * WidthOf(part.begin)));
    for (int64_t k = 0; k < k_bytes_; k += chunk_) {
      Place place;
      place.fours = std::min(chunk_, k_bytes_ - k) / kLaneBytes;
      place.first = k == 0;
      place.ahead = &ahead;
      if constexpr (kUnpacks) {
        place.x = scratch_.x + (all_of_x_ ? k * UnpackedRows(args_.rows) * P::kParts : 0);
        place.ldx = chunk_ * P::kParts;
        if (!all_of_x_) UnpackX(rows, k, scratch_.x);
      } else {
        place.ldx = RowBytes();
        place.x = reinterpret_cast<const char*>(args_.x) + rows.begin * place.ldx + k;
      }
      for (int64_t column = part.begin; column < part.end; column += kColumnBlock) {
        place.w = Weights(column, k);
        place.sums = scratch_.sums + (column - part.begin);
        if (part_columns_ > kColumnBlock) {
          const int64_t after = column + kColumnBlock;
          // From half a page before the following weights on: StreamAhead takes that to be on its way.
          ahead = StreamAhead<kToL2>((after < part.end             ? Weights(after, k)
                                      : k + chunk_ < k_bytes_      ? Weights(part.begin, k + chunk_)
                                                                   : Weights(next, 0)) - 2 * kHalfPage);
        }
        Block(rows.size(), WidthOf(column), place);
      }
    }
  }

  // Adds one chunk of a block. The chunk that follows comes in evenly over the steps: requests beyond memory's pace are
  // dropped.
  void Block(int64_t rows, int64_t width, Place place) {
    const int64_t tiles = TilesOf(rows);
    const int64_t strip_width = rows == 1 ? width : kStrip;
    const int64_t steps = tiles * ((width + strip_width - 1) / strip_width);
    const int64_t lines = width / kColumnGroup;  // that four bytes of k are
    // A page more where each chunk's stream begins anew.
    const int64_t pairs = lines * place.fours / 2 + (part_columns_ > kColumnBlock ? kHalfPage / kLine : 0);
    place.pace = (pairs * kPace + steps * place.fours - 1) / (steps * place.fours);
    for (int64_t c = 0; c < width; c += strip_width) {
      const int64_t strip = std::min(strip_width, width - c);
      Place tile = place;
      tile.w += c * kLaneBytes;
      tile.w_stride = width * kLaneBytes;
      if (kUnpacks && unpacks_) Unpack(strip, tile);
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t first = TileBegin<P>(i, tiles, rows);
        tile.x = place.x + first * place.ldx;
        tile.sums = place.sums + first * kSumsStride + c;
        const int height = static_cast<int>(TileBegin<P>(i + 1, tiles, rows) - first);
        switch (strip / kColumnGroup) {
          case 1: Tiles<1>(height, i == 0, tile); break;
          case 2: Tiles<2>(height, i == 0, tile); break;
          case 3: Tiles<3>(height, i == 0, tile); break;
          default: Tiles<4>(height, i == 0, tile); break;
        }
      }
    }
  }

  // scratch.w = the operands of a strip, which the tiles shall read.
  void Unpack(int64_t strip, Place& place) {
    if constexpr (kUnpacks) {
      const int64_t part = strip * kLaneBytes;
      const char* w = place.w;
      char* to = scratch_.w;
      for (int64_t i = 0; i < place.fours;
           i += kTogether, w += kTogether * place.w_stride, to += kTogether * P::kParts * part) {
        for (int64_t c = 0; c < part; c += P::kLanes * kLaneBytes) {
          if constexpr (kPairs) P::Unpack(w + c, place.w_stride, to + c, part);
          else P::Unpack(w + c, to + c, part);
        }
      }
      place.w = scratch_.w;
      place.w_stride = P::kParts * part;
    }
  }

  template <int kGroups>
  void Tiles(int rows, bool first, const Place& place) const {
    constexpr int kVectors = kGroups * kGroupVectors;
    if constexpr (kGroups * kColumnGroup > kStrip) {
      if constexpr (!kPairs) Tile<1, kVectors, false, true>(place);  // one row alone takes a block of columns at once
    } else {
      if constexpr (kUnpacks) {
        if (unpacks_) TileOf<P::kTileRows, kVectors, true, false>(rows, place);
        else TileOf<P::kTileRows, kVectors, false, true>(rows, place);
      } else {
        if (first) TileOf<P::kTileRows, kVectors, false, true>(rows, place);
        else TileOf<P::kTileRows, kVectors, false, false>(rows, place);
      }
    }
  }

  template <int kRows, int kVectors, bool kUnpacked, bool kAsksAgain>
  static void TileOf(int rows, const Place& place) {
    if constexpr (kRows > LeastHeight<kUnpacked>()) {
      if (rows < kRows) return TileOf<kRows - 1, kVectors, kUnpacked, kAsksAgain>(rows, place);
    }
    if constexpr (kPairs) PairTile<kRows, kVectors, kUnpacked>(place);
    else Tile<kRows, kVectors, kUnpacked, kAsksAgain>(place);
  }
  // Rows are shared out evenly among the tiles: of many rows no tile has fewer.
  template <bool kUnpacked>
  static constexpr int LeastHeight() {
    if constexpr (kUnpacked) return P::kUnpackRows / static_cast<int>(TilesOf(P::kUnpackRows));
    return kTogether;
  }

  // sums += x · w. With kAsksAgain the weights are asked for into L1, too: by the first tile of rows, and where they are
  // taken apart by all; elsewhere these requests cost 3 % of the tile. GCC keeps the sums in registers only if the loops
  // over them are gone before it looks: hence the pragmas.
  template <int kRows, int kVectors, bool kUnpacked, bool kAsksAgain>
  [[gnu::noinline]] static void Tile(const Place& place) {
    using V = typename P::V;
    V sum[kRows][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = place.first ? P::Zero() : P::Load(place.sums + r * kSumsStride + v * P::kLanes);
      }
    }
    const char* x = place.x;
    const char* w = place.w;
    StreamAhead<kToL2> ahead = *place.ahead;
    // Constants where they can be: as many addresses as a high tile has take all registers.
    const int64_t ldx = kUnpacks ? kUnpackedChunk * P::kParts : place.ldx;
    const int64_t w_stride = kUnpacked ? P::kParts * kVectors * P::kLanes * kLaneBytes : place.w_stride;
    const int64_t pace = place.pace;
    for (int64_t i = 0; i < place.fours; ++i, w += w_stride) {
      ahead.Ask(pace);
      if constexpr (kAsksAgain) {
        for (int v = 0; v < kVectors; v += kGroupVectors) {
          __builtin_prefetch(w + v * P::kLanes * kLaneBytes + kFoursAhead * w_stride);
        }
      }
#pragma GCC unroll 2
      for (int part = 0; part < P::kParts; ++part, x += kLaneBytes) {
        typename P::X operands[kVectors];
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          operands[v] = Operands<kUnpacked, kVectors>(w + v * P::kLanes * kLaneBytes, part);
        }
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const typename P::X broadcast = P::Broadcast(x + r * ldx);
#pragma GCC unroll 16
          for (int v = 0; v < kVectors; ++v) sum[r][v] = P::Dot(sum[r][v], broadcast, operands[v]);
          // The next loads early would take a sum's register.
          if constexpr (kUnpacks) asm volatile("" : : : "memory");
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) P::Store(place.sums + r * kSumsStride + v * P::kLanes, sum[r][v]);
    }
    *place.ahead = ahead;
  }

  // The same of pairs. The x of all rows stays in registers while the weights pass: there is less of it. An odd last row is
  // its own second one, so its sums are computed and stored twice.
  template <int kRows, int kVectors, bool kUnpacked>
  [[gnu::noinline]] static void PairTile(const Place& place) {
    constexpr int kHeight = HeightOf<P>(kRows);
    constexpr int64_t kFour = P::kLanes * kLaneBytes;  // of a vector of columns
    const auto next = [](int pair) __attribute__((always_inline)) { return 2 * pair + 1 < kRows ? kSumsStride : 0; };
    typename P::V sum[kHeight][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kHeight; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        const Sum* sums = place.sums + 2 * r * kSumsStride + v * P::kLanes;
        sum[r][v] = place.first ? P::Zero() : P::Load(sums, next(r));
      }
    }
    const char* x = place.x;
    const char* w = place.w;
    StreamAhead<kToL2> ahead = *place.ahead;
    const int64_t w_stride = kUnpacked ? kVectors * kFour : place.w_stride;
    const int64_t pace = 2 * place.pace;
    for (int64_t i = 0; i < place.fours; i += 2, w += 2 * w_stride, x += 4 * kLaneBytes) {
      ahead.Ask(pace);
      typename P::X operands[kHeight];
#pragma GCC unroll 16
      for (int r = 0; r < kHeight; ++r) operands[r] = P::LoadX(x + r * 2 * kUnpackedChunk);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        const char* at = w + v * kFour;
        if constexpr (!kUnpacked) {
          if (v % kGroupVectors == 0) {
            __builtin_prefetch(at + kFoursAhead * w_stride);
            __builtin_prefetch(at + (kFoursAhead + 1) * w_stride);
          }
        }
        const typename P::W weights = kUnpacked ? P::LoadOperands(at, w_stride) : P::LoadWeights(at, w_stride);
#pragma GCC unroll 16
        for (int r = 0; r < kHeight; ++r) sum[r][v] = P::Dot(sum[r][v], operands[r], weights);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kHeight; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        P::Store(place.sums + 2 * r * kSumsStride + v * P::kLanes, next(r), sum[r][v]);
      }
    }
    *place.ahead = ahead;
  }

  // The operands that are `part` of the four bytes of each lane at w.
  template <bool kUnpacked, int kVectors>
  [[gnu::always_inline]] static typename P::X Operands(const char* w, int part) {
    if constexpr (!kUnpacks) {
      return P::LoadWeights(w);
    } else if constexpr (kUnpacked) {
      return P::LoadOperands(w + part * kVectors * P::kLanes * kLaneBytes);
    } else {
      return part == 0 ? P::template Part<0>(P::LoadWeights(w)) : P::template Part<1>(P::LoadWeights(w));
    }
  }

  const typename P::Args& args_;
  const int64_t k_bytes_;
  const int64_t panels_;
  int64_t end_ = 0;  // of the columns
  int64_t chunk_ = 0;  // bytes of k
  bool one_step_ = false;  // over the weights, which are then all of k
  int64_t part_columns_ = kColumnBlock;
  bool unpacks_ = false;
  bool all_of_x_ = false;  // in scratch.x; else it holds the chunk at hand
  Scratch scratch_;
};

template <typename P>
void Matmul(const typename P::Args& args, Share share) {
  MatmulNest<P> nest(args);
  nest.Run(args.weight->ColumnRange(share.index));
}

}  // namespace tiercel::kernels::simd
