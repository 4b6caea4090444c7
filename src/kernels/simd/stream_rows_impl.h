// Matmul of few rows by FP32 FMA, once for all vector widths (S is an ISA's Simd): the weights pass
// through the core once, as one linear stream, and are unpacked in registers. Every output element
// is one chain of FMAs over k ascending.
#pragma once

#include <algorithm>

#include "kernels/ops.h"
#include "kernels/simd/register_tile.h"
#include "kernels/simd/stream_ahead.h"
#include "kernels/simd/unpack_impl.h"

namespace tiercel::kernels::simd {

// At most kMaxRows rows, in tiles of up to kTileRows × 2 vectors of columns, whose accumulators, unpacked
// weights and what unpacking and broadcasting need fill the ISA's registers. The sums of a packed block
// stay in L1 beside the chunk of weights (8 KiB), which all tiles read, and the next one, which is
// asked for evenly over this one's arithmetic.
template <typename S, int kTileRows, int kMaxRows>
class StreamRows {
 public:
  explicit StreamRows(const MatmulArgs& args)
      : args_(args), tiles_(static_cast<int>((args.rows + kTileRows - 1) / kTileRows)) {
    const int64_t k_padded = args.weight->k_padded;
    all_of_x_ = args.rows * ((k_padded + kChunk - 1) / kChunk * kChunk) <= kXSize;
    for (int64_t k = 0; all_of_x_ && k < k_padded; k += kChunk) {
      WidenX(k, std::min(kChunk, k_padded - k), x_ + k * args.rows);
    }
  }

  // The sums [row][kColumnBlock] of all rows × the packed block of `width` columns at w.
  const float* Block(const BF16* w, int64_t width) {
    std::fill(sums_, sums_ + args_.rows * kColumnBlock, 0.0f);
    const int64_t k_padded = args_.weight->k_padded;
    StreamAhead<kToL1> ahead(w + kChunk * width);
    for (int64_t k = 0; k < k_padded; k += kChunk) {
      Chunk chunk;
      chunk.w = w + k * width;
      chunk.width = width;
      chunk.count = std::min(kChunk, k_padded - k);
      const float* const x = all_of_x_ ? x_ + k * args_.rows : x_;
      if (!all_of_x_) WidenX(k, chunk.count, x_);
      chunk.ahead = &ahead;
      chunk.turn = 0;
      for (int tile = 0; tile < tiles_; ++tile) {
        const int64_t first = args_.rows * tile / tiles_;
        const int rows = static_cast<int>(args_.rows * (tile + 1) / tiles_ - first);
        chunk.x = x + first * kChunk;
        for (int64_t c = 0; c < width; c += kTileColumns) {
          chunk.sums = sums_ + first * kColumnBlock + c;
          const BF16* columns = chunk.w + c * kPair;
          width - c >= kTileColumns ? Rows<kTileRows, 2>(rows, columns, chunk)
                                    : Rows<kTileRows, 1>(rows, columns, chunk);
        }
      }
    }
    return sums_;
  }

 private:
  static constexpr int64_t kChunk = 64;
  // x as FP32 in a part of L2 (256 KiB): widened once, and not for every block of columns.
  static constexpr int64_t kXSize = int64_t{64} << 10;
  static_assert(kMaxRows * kChunk <= kXSize);
  static constexpr int64_t kTileColumns = 2 * S::kLanes;
  static_assert(kColumnGroup % S::kLanes == 0);

  struct Chunk {
    const BF16* w;
    int64_t width;
    int64_t count;  // of k
    StreamAhead<kToL1>* ahead;
    int turn;  // one in `tiles_` steps asks for the next chunk: at turn 0
    const float* x;  // of a tile
    float* sums;     // of a tile and its columns
  };

  // to = [row][kChunk] of x from k on.
  void WidenX(int64_t k, int64_t count, float* to) {
    WidenRows<S>(args_, {0, args_.rows}, {k, k + count}, to, kChunk);
  }

  template <int kRows, int kVectors>
  void Rows(int rows, const BF16* w, Chunk& chunk) {
    if constexpr (kRows > 1) {
      if (rows < kRows) return Rows<kRows - 1, kVectors>(rows, w, chunk);
    }
    Tile<kRows, kVectors>(w, chunk);
  }

  template <int kRows, int kVectors>
  void Tile(const BF16* w, Chunk& chunk) {
    // Lines are asked for in twos: so many pairs of k read two.
    constexpr int kAskEvery = 2 * kLine / (kVectors * S::kLanes * kPair * sizeof(BF16));
    constexpr int kStep = std::max(kAskEvery, 4);  // pairs of k: few instructions beside the FMAs
    static_assert(kKBlock % (kStep * kPair) == 0);
    float* sums = chunk.sums;
    RegisterTile<S, kRows, kVectors> tile;
    tile.Load(sums, kColumnBlock);
    // tile += x[:, k] · w, where w is one k of the pair at `pairs`.
    const auto add = [&]<int kOfPair>(const BF16* pairs, const float* xk)
                         __attribute__((always_inline)) {
      tile.AddProducts(
          [&](int r) __attribute__((always_inline)) { return S::Set(xk[r * kChunk]); },
          [&](int v) __attribute__((always_inline)) {
            return S::template Part<BF16, kOfPair>(S::LoadRaw(pairs + v * S::kLanes * kPair));
          });
    };
    StreamAhead<kToL1> ahead = *chunk.ahead;
    int turn = chunk.turn;
    const float* x = chunk.x;
    for (const float* end = x + chunk.count; x < end; x += kStep * kPair) {
      const bool ask = turn == 0;
      turn = ask ? tiles_ - 1 : turn - 1;
#pragma GCC unroll 8
      for (int i = 0; i < kStep; ++i, w += chunk.width * kPair) {
        if (ask && i % kAskEvery == 0) ahead.AskPair();
        add.template operator()<0>(w, x + i * kPair);
        add.template operator()<1>(w, x + i * kPair + 1);
      }
    }
    *chunk.ahead = ahead;
    chunk.turn = turn;
    tile.Store(sums, kColumnBlock);
  }

  const MatmulArgs& args_;
  const int tiles_;
  bool all_of_x_ = false;  // chunk by chunk in x_; else it holds the chunk at hand
  alignas(64) float x_[kXSize];
  alignas(64) float sums_[kMaxRows * kColumnBlock];
};

}  // namespace tiercel::kernels::simd
