// Matmul of few rows by FP32 FMA, once for all vector widths (S is an ISA's Simd): the weights pass
// through the core once, as one linear stream, and are unpacked in registers. Every output element
// is one chain of FMAs over k ascending.
#pragma once

#include <immintrin.h>

#include <algorithm>

#include "kernels/ops.h"
#include "kernels/x86/stream_ahead.h"

namespace tiercel::kernels::x86 {

// At most kMaxRows rows: one register tile of kMaxRows × 2 accumulators, two unpacked weights and
// what unpacking and broadcasting need fill the ISA's registers. The sums of a packed block and a
// chunk of k of x as FP32 stay in L1 beside the chunk of weights (8 KiB) and the next one, which is
// asked for meanwhile.
template <typename S, int kMaxRows>
class StreamRows {
  using V = typename S::V;

 public:
  explicit StreamRows(const MatmulArgs& args) : args_(args) {}

  // The sums [row][kColumnBlock] of all rows × the packed block of `width` columns at w.
  const float* Block(const BF16* w, int64_t width) {
    std::fill(sums_, sums_ + args_.rows * kColumnBlock, 0.0f);
    const int64_t k_padded = args_.weight->k_padded;
    StreamAhead<_MM_HINT_T0> ahead(w + kChunk * width);
    for (int64_t k = 0; k < k_padded; k += kChunk) {
      Chunk chunk;
      chunk.w = w + k * width;
      chunk.width = width;
      chunk.count = std::min(kChunk, k_padded - k);
      WidenX(k, chunk.count);
      chunk.ahead = &ahead;
      for (int64_t c = 0; c < width; c += kTileColumns) {
        width - c >= kTileColumns ? Rows<kMaxRows, 2>(chunk, c) : Rows<kMaxRows, 1>(chunk, c);
      }
    }
    return sums_;
  }

 private:
  static constexpr int64_t kChunk = 64;
  static constexpr int64_t kTileColumns = 2 * S::kLanes;
  static_assert(kColumnGroup % S::kLanes == 0);

  struct Chunk {
    const BF16* w;
    int64_t width;
    int64_t count;      // of k
    StreamAhead<_MM_HINT_T0>* ahead;
  };

  void WidenX(int64_t k, int64_t count) {
    for (int64_t r = 0; r < args_.rows; ++r) {
      for (int64_t i = 0; i < count; i += S::kLanes) {
        S::Store(x_ + r * kChunk + i, S::Widen(args_.x + r * args_.ldx + k + i));
      }
    }
  }

  template <int kRows, int kVectors>
  void Rows(Chunk& chunk, int64_t column) {
    if constexpr (kRows > 1) {
      if (args_.rows < kRows) return Rows<kRows - 1, kVectors>(chunk, column);
    }
    Tile<kRows, kVectors>(chunk, column);
  }

  template <int kRows, int kVectors>
  void Tile(Chunk& chunk, int64_t column) {
    // Lines are asked for in twos: so many pairs of k read two.
    constexpr int64_t kAskEvery = 2 * kLine / (kVectors * S::kLanes * kPair * sizeof(BF16));
    float* sums = sums_ + column;
    V acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        acc[r][v] = S::Load(sums + r * kColumnBlock + v * S::kLanes);
      }
    }
    const BF16* w = chunk.w + column * kPair;
    StreamAhead<_MM_HINT_T0> ahead = *chunk.ahead;
    for (int64_t k = 0; k < chunk.count; k += kPair, w += chunk.width * kPair) {
      V even[kVectors], odd[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        const typename S::Raw pairs = S::LoadRaw(w + v * S::kLanes * kPair);
        even[v] = S::template Part<BF16, 0>(pairs);
        odd[v] = S::template Part<BF16, 1>(pairs);
      }
      if (k / kPair % kAskEvery == 0) ahead.AskPair();
      for (int r = 0; r < kRows; ++r) {
        const V x = S::Set(x_[r * kChunk + k]);
        for (int v = 0; v < kVectors; ++v) acc[r][v] = S::Fma(x, even[v], acc[r][v]);
      }
      for (int r = 0; r < kRows; ++r) {
        const V x = S::Set(x_[r * kChunk + k + 1]);
        for (int v = 0; v < kVectors; ++v) acc[r][v] = S::Fma(x, odd[v], acc[r][v]);
      }
    }
    *chunk.ahead = ahead;
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        S::Store(sums + r * kColumnBlock + v * S::kLanes, acc[r][v]);
      }
    }
  }

  const MatmulArgs& args_;
  alignas(64) float x_[kMaxRows * kChunk];
  alignas(64) float sums_[kMaxRows * kColumnBlock];
};

}  // namespace tiercel::kernels::x86
