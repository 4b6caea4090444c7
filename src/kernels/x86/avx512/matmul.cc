// Matmul by FP32 FMA on BF16 pairs that are unpacked by shift and mask. Every output element is
// one chain of FMAs over k ascending, so its bits do not depend on the path or tile it is in.
#include <algorithm>
#include <cstring>

#include "kernels/x86/avx512/epilogue.h"
#include "kernels/x86/avx512/kernels.h"

namespace tiercel::kernels::avx512 {
namespace {

// Few rows are bound by memory: unpack each weight in registers and use it at once.
constexpr int64_t kDirectRows = 4;
// Many rows: 6 × 4 accumulators; k in chunks whose unpacked weights (64 · 64 · 4 = 16 KiB) stay
// in a 32 KiB L1; rows in panels whose accumulators between the chunks are 32 KiB of L2.
constexpr int kTileRows = 6;
constexpr int64_t kChunk = 64;
constexpr int64_t kPanelRows = 126;

[[gnu::always_inline]] inline __m512 Even(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
[[gnu::always_inline]] inline __m512 Odd(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff0000)));
}

template <int kRows, int kGroups>
void DirectTile(const MatmulArgs& args, int64_t column, const BF16* w) {
  __m512 acc[kRows][kGroups];
  for (auto& r : acc) {
    for (__m512& a : r) a = _mm512_setzero_ps();
  }
  const int64_t k_padded = args.weight->k_padded;
  for (int64_t k = 0; k < k_padded; k += kPair, w += kGroups * 32) {
    __m512 even[kGroups], odd[kGroups];
    for (int g = 0; g < kGroups; ++g) {
      const __m512i pairs = _mm512_load_si512(w + g * 32);
      even[g] = Even(pairs);
      odd[g] = Odd(pairs);
    }
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      std::memcpy(&pair, args.x + r * args.ldx + k, sizeof(pair));
      const __m512i pairs = _mm512_set1_epi32(pair);
      const __m512 x0 = Even(pairs);
      const __m512 x1 = Odd(pairs);
      for (int g = 0; g < kGroups; ++g) acc[r][g] = _mm512_fmadd_ps(x0, even[g], acc[r][g]);
      for (int g = 0; g < kGroups; ++g) acc[r][g] = _mm512_fmadd_ps(x1, odd[g], acc[r][g]);
    }
  }
  alignas(64) float finished[kColumnBlock];
  for (int r = 0; r < kRows; ++r) {
    for (int g = 0; g < kGroups; ++g) _mm512_store_ps(finished + g * 16, acc[r][g]);
    FinishRow(args, r, column, kGroups * 16, finished);
  }
}

template <int kGroups>
void DirectBlock(const MatmulArgs& args, int64_t column, const BF16* w) {
  switch (args.rows) {
    case 1: return DirectTile<1, kGroups>(args, column, w);
    case 2: return DirectTile<2, kGroups>(args, column, w);
    case 3: return DirectTile<3, kGroups>(args, column, w);
    case 4: return DirectTile<4, kGroups>(args, column, w);
  }
}

struct Scratch {
  alignas(64) float w[kChunk * kColumnBlock];      // [k][width]
  alignas(64) float x[kTileRows * kChunk];         // [row][k]
  alignas(64) float acc[kPanelRows * kColumnBlock];  // [row][width]
};

// acc += x · w over one chunk of k. Asks for the packed weights at `next` and those behind them, a
// k's share at each k, if it is not null.
template <int kRows, int kGroups>
void ChunkTile(const float* x, const float* w, int64_t k_count, float* acc_rows,
               const BF16* next) {
  __m512 acc[kRows][kGroups];
  for (int r = 0; r < kRows; ++r) {
    for (int g = 0; g < kGroups; ++g) {
      acc[r][g] = _mm512_load_ps(acc_rows + (r * kGroups + g) * 16);
    }
  }
  for (int64_t k = 0; k < k_count; ++k, w += kGroups * 16) {
    __m512 wv[kGroups];
    for (int g = 0; g < kGroups; ++g) wv[g] = _mm512_load_ps(w + g * 16);
    if (next != nullptr) {
      for (int g = 0; g < kGroups; g += 2) {
        _mm_prefetch(next + (k * kGroups + g) * 16, _MM_HINT_T0);
      }
    }
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
               const BF16* next) {
  switch (rows) {
    case 1: return ChunkTile<1, kGroups>(x, w, k_count, acc, next);
    case 2: return ChunkTile<2, kGroups>(x, w, k_count, acc, next);
    case 3: return ChunkTile<3, kGroups>(x, w, k_count, acc, next);
    case 4: return ChunkTile<4, kGroups>(x, w, k_count, acc, next);
    case 5: return ChunkTile<5, kGroups>(x, w, k_count, acc, next);
    default: return ChunkTile<kTileRows, kGroups>(x, w, k_count, acc, next);
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
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    const int64_t k_count = std::min(kChunk, k_padded - k);
    for (int64_t i = 0; i < k_count * kWidth; i += 2 * kWidth, w += 2 * kWidth) {
      for (int g = 0; g < kGroups; ++g) {
        const __m512i pairs = _mm512_load_si512(w + g * 32);
        _mm512_store_ps(scratch.w + i + g * 16, Even(pairs));
        _mm512_store_ps(scratch.w + i + kWidth + g * 16, Odd(pairs));
      }
    }
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = panel.size() * tile / tiles;
      const int rows = static_cast<int>(panel.size() * (tile + 1) / tiles - first);
      for (int r = 0; r < rows; ++r) {
        const BF16* x = args.x + (panel.begin + first + r) * args.ldx + k;
        for (int64_t i = 0; i < k_count; i += 16) {
          _mm512_store_ps(scratch.x + r * kChunk + i, LoadBF16(x + i));
        }
      }
      // The next chunk of weights comes in over the first tile's arithmetic.
      ChunkRows<kGroups>(rows, scratch.x, scratch.w, k_count, scratch.acc + first * kWidth,
                         tile == 0 ? w : nullptr);
    }
  }
  for (int64_t r = 0; r < panel.size(); ++r) {
    FinishRow(args, panel.begin + r, column, kWidth, scratch.acc + r * kWidth);
  }
}

template <int kGroups>
void Block(const MatmulArgs& args, int64_t column, const BF16* w, Scratch& scratch) {
  if (args.rows <= kDirectRows) return DirectBlock<kGroups>(args, column, w);
  for (int64_t row = 0; row < args.rows; row += kPanelRows) {
    const Range panel = {row, std::min(args.rows, row + kPanelRows)};
    PanelBlock<kGroups>(args, panel, column, w, scratch);
  }
}

}  // namespace

void Matmul(const MatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  Scratch scratch;  // 50 KiB of stack
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const BF16* w = static_cast<const BF16*>(weight.data) + column * weight.k_padded;
    switch (std::min(kColumnBlock, range.end - column) / kColumnGroup) {
      case 1: Block<1>(args, column, w, scratch); break;
      case 2: Block<2>(args, column, w, scratch); break;
      case 3: Block<3>(args, column, w, scratch); break;
      default: Block<4>(args, column, w, scratch); break;
    }
  }
}

}  // namespace tiercel::kernels::avx512
