// Matmul by FP32 FMA on BF16 pairs that are unpacked by shift and mask. Every output element is
// one chain of FMAs over k ascending, so its bits do not depend on the path or tile it is in.
#include <algorithm>
#include <cstring>

#include "kernels/x86/avx512/epilogue.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"
#include "kernels/x86/stream_rows_impl.h"

namespace tiercel::kernels::avx512 {
namespace {

// Rows up to which memory is the nearer limit, or not far: tiles of 12 × 2 accumulators, each weight
// unpacked in registers.
constexpr int kStreamTileRows = 12;
constexpr int kStreamRows = 24;
// Many rows: 6 × 4 accumulators; k in chunks whose unpacked weights (64 · 64 · 4 = 16 KiB) stay
// in a 32 KiB L1; rows in panels whose accumulators between the chunks are 32 KiB of L2.
constexpr int kTileRows = 6;
constexpr int64_t kChunk = 64;
constexpr int64_t kPanelRows = 126;

struct Scratch {
  alignas(64) float w[kChunk * kColumnBlock];      // [k][width]
  alignas(64) float x[kTileRows * kChunk];         // [row][k]
  alignas(64) float acc[kPanelRows * kColumnBlock];  // [row][width]
};

// acc += x · w over one chunk of k. Meanwhile asks for `pairs` ≤ k_count pairs of lines.
template <int kRows, int kGroups>
void ChunkTile(const float* x, const float* w, int64_t k_count, float* acc_rows,
               x86::StreamAhead<_MM_HINT_T1>* ahead, int64_t pairs) {
  __m512 acc[kRows][kGroups];
  for (int r = 0; r < kRows; ++r) {
    for (int g = 0; g < kGroups; ++g) {
      acc[r][g] = _mm512_load_ps(acc_rows + (r * kGroups + g) * 16);
    }
  }
  for (int64_t k = 0; k < k_count; ++k, w += kGroups * 16) {
    __m512 wv[kGroups];
    for (int g = 0; g < kGroups; ++g) wv[g] = _mm512_load_ps(w + g * 16);
    if (k < pairs) ahead->AskPair();
    for (int r = 0; r < kRows; ++r) {
      const __m512 xv = _mm512_set1_ps(x[r * kChunk + k]);
      for (int g = 0; g < kGroups; ++g) acc[r][g] = _mm512_fmadd_ps(xv, wv[g], acc[r][g]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int g = 0; g < kGroups; ++g) {
      _mm512_store_ps(acc_rows + (r * kGroups + g) * 16, acc[r][g]);
    }
  }
}

template <int kGroups>
void ChunkRows(int rows, const float* x, const float* w, int64_t k_count, float* acc,
               x86::StreamAhead<_MM_HINT_T1>* ahead, int64_t pairs) {
  switch (rows) {
    case 1: return ChunkTile<1, kGroups>(x, w, k_count, acc, ahead, pairs);
    case 2: return ChunkTile<2, kGroups>(x, w, k_count, acc, ahead, pairs);
    case 3: return ChunkTile<3, kGroups>(x, w, k_count, acc, ahead, pairs);
    case 4: return ChunkTile<4, kGroups>(x, w, k_count, acc, ahead, pairs);
    case 5: return ChunkTile<5, kGroups>(x, w, k_count, acc, ahead, pairs);
    default: return ChunkTile<kTileRows, kGroups>(x, w, k_count, acc, ahead, pairs);
  }
}

// The rows [panel.begin, panel.end) of one block of columns.
template <int kGroups>
void PanelBlock(const MatmulArgs& args, Range panel, int64_t column, const BF16* w,
                Scratch& scratch) {
  constexpr int64_t kWidth = kGroups * 16;
  const int64_t k_padded = args.weight->k_padded;
  std::memset(scratch.acc, 0, panel.size() * kWidth * sizeof(float));
  const int64_t tiles = (panel.size() + kTileRows - 1) / kTileRows;
  x86::StreamAhead<_MM_HINT_T1> ahead(w + kChunk * kWidth);
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    const int64_t k_count = std::min(kChunk, k_padded - k);
    for (int64_t i = 0; i < k_count * kWidth; i += 2 * kWidth, w += 2 * kWidth) {
      for (int g = 0; g < kGroups; ++g) {
        const Simd::Raw pairs = Simd::LoadRaw(w + g * 32);
        Simd::Store(scratch.w + i + g * 16, Simd::Part<BF16, 0>(pairs));
        Simd::Store(scratch.w + i + kWidth + g * 16, Simd::Part<BF16, 1>(pairs));
      }
    }
    // The next chunk of weights comes in evenly over this one's arithmetic, which needs only L1.
    int64_t left = k_count * kWidth / 64;  // pairs of lines
    const int64_t pairs = (left + tiles - 1) / tiles;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = panel.size() * tile / tiles;
      const int rows = static_cast<int>(panel.size() * (tile + 1) / tiles - first);
      for (int r = 0; r < rows; ++r) {
        const BF16* x = args.x + (panel.begin + first + r) * args.ldx + k;
        for (int64_t i = 0; i < k_count; i += 16) {
          _mm512_store_ps(scratch.x + r * kChunk + i, LoadBF16(x + i));
        }
      }
      ChunkRows<kGroups>(rows, scratch.x, scratch.w, k_count, scratch.acc + first * kWidth,
                         &ahead, std::min(pairs, left));
      left -= std::min(pairs, left);
    }
  }
  for (int64_t r = 0; r < panel.size(); ++r) {
    FinishRow(args, panel.begin + r, column, kWidth, scratch.acc + r * kWidth);
  }
}

template <int kGroups>
void Block(const MatmulArgs& args, int64_t column, const BF16* w, Scratch& scratch) {
  for (int64_t row = 0; row < args.rows; row += kPanelRows) {
    const Range panel = {row, std::min(args.rows, row + kPanelRows)};
    PanelBlock<kGroups>(args, panel, column, w, scratch);
  }
}

}  // namespace

void Matmul(const MatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  if (args.rows == 0) return;
  const auto weights = [&](int64_t column) {
    return static_cast<const BF16*>(weight.data) + column * weight.k_padded;
  };
  if (args.rows <= kStreamRows) {
    x86::StreamRows<Simd, kStreamTileRows, kStreamRows> stream(args);  // 262 KiB of stack
    for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
      const int64_t width = std::min(kColumnBlock, range.end - column);
      const float* sums = stream.Block(weights(column), width);
      for (int64_t r = 0; r < args.rows; ++r) {
        FinishRow(args, r, column, width, sums + r * kColumnBlock);
      }
    }
    return;
  }
  Scratch scratch;  // 50 KiB of stack
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const BF16* w = weights(column);
    switch (std::min(kColumnBlock, range.end - column) / kColumnGroup) {
      case 1: Block<1>(args, column, w, scratch); break;
      case 2: Block<2>(args, column, w, scratch); break;
      case 3: Block<3>(args, column, w, scratch); break;
      default: Block<4>(args, column, w, scratch); break;
    }
  }
}

}  // namespace tiercel::kernels::avx512
