// Matmul by FP32 FMA on BF16 pairs that are unpacked by shift and mask. Every output element is
// one chain of FMAs over k ascending (the same chain as avx512's FMA kernel), so its bits do not
// depend on the path or tile it is in.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"
#include "kernels/x86/stream_rows_impl.h"

namespace tiercel::kernels::avx2 {
namespace {

// Rows up to which memory is the nearer limit, or not far: tiles of 6 × 2 accumulators, 2 weights and 1
// broadcast of the 16 registers, each weight unpacked in registers.
constexpr int kStreamTileRows = 6;
constexpr int kStreamRows = 18;
// 6 rows × 16 columns: 12 accumulators + 2 weight vectors + 1 broadcast of the 16 registers; a k
// takes 6 cycles of two FMA ports and 4 of two load ports.
constexpr int kTileRows = 6;
// k in chunks whose unpacked weights (64 · 64 · 4 = 16 KiB) stay in a 32 KiB L1; rows in panels
// whose accumulators between the chunks are 32 KiB of L2.
constexpr int64_t kChunk = 64;
constexpr int64_t kPanelRows = 126;

// Finishes 16 columns (a gate's 16 with the up's 16 behind them for kSwiGlu) of one row.
void FinishGroup(const MatmulArgs& args, int64_t row, int64_t column, const float* acc,
                 const float* up_acc) {
  const auto sum = [&](const float* from, int64_t c) __attribute__((always_inline)) {
    const __m256 v = _mm256_load_ps(from + c % kColumnGroup);
    return args.bias != nullptr ? _mm256_add_ps(v, _mm256_loadu_ps(args.bias + column + c)) : v;
  };
  const int64_t at = row * args.ldo + column;
  for (int64_t c = 0; c < kColumnGroup; c += 8) {
    const __m256 v = sum(acc, c);
    switch (args.epilogue) {
      case Epilogue::kStore:
        StoreBF16(args.out + at + c, v);
        break;
      case Epilogue::kAdd:
        StoreBF16(args.out + at + c, _mm256_add_ps(v, LoadBF16(args.residual + at + c)));
        break;
      case Epilogue::kSwiGlu: {
        const __m256 negated = _mm256_sub_ps(_mm256_setzero_ps(), v);
        const __m256 silu =
            _mm256_div_ps(v, _mm256_add_ps(_mm256_set1_ps(1.0f), Exp(negated)));
        StoreBF16(args.out + row * args.ldo + column / 2 + c,
                  _mm256_mul_ps(silu, sum(up_acc, c + kColumnGroup)));
        break;
      }
      case Epilogue::kStoreF32:
        _mm256_storeu_ps(args.out_f32 + at + c, v);
        break;
    }
  }
}

// Finishes the columns [column, column + groups · 16) of a row; the sums of one group are
// `group_stride` floats behind those of the group before.
void FinishRow(const MatmulArgs& args, int64_t row, int64_t column, int groups, const float* acc,
               int64_t group_stride) {
  const int step = args.epilogue == Epilogue::kSwiGlu ? 2 : 1;
  for (int g = 0; g < groups; g += step) {
    FinishGroup(args, row, column + g * kColumnGroup, acc + g * group_stride,
                acc + (g + 1) * group_stride);
  }
}

struct Scratch {
  alignas(64) float w[kColumnBlock * kChunk];        // [group][k][16]
  alignas(64) float x[kTileRows * kChunk];           // [row][k]
  alignas(64) float acc[kColumnBlock * kPanelRows];  // [group][row][16]
};

// acc += x · w for one group of 16 columns over one chunk of k. Meanwhile asks for
// `pairs` ≤ k_count pairs of lines.
template <int kRows>
void ChunkTile(const float* x, const float* w, int64_t k_count, float* acc_rows,
               x86::StreamAhead<_MM_HINT_T1>* ahead, int64_t pairs) {
  __m256 acc[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = _mm256_load_ps(acc_rows + r * 16);
    acc[r][1] = _mm256_load_ps(acc_rows + r * 16 + 8);
  }
  for (int64_t k = 0; k < k_count; ++k, w += 16) {
    const __m256 w0 = _mm256_load_ps(w);
    const __m256 w1 = _mm256_load_ps(w + 8);
    if (k < pairs) ahead->AskPair();
    for (int r = 0; r < kRows; ++r) {
      const __m256 xv = _mm256_broadcast_ss(x + r * kChunk + k);
      acc[r][0] = _mm256_fmadd_ps(xv, w0, acc[r][0]);
      acc[r][1] = _mm256_fmadd_ps(xv, w1, acc[r][1]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    _mm256_store_ps(acc_rows + r * 16, acc[r][0]);
    _mm256_store_ps(acc_rows + r * 16 + 8, acc[r][1]);
  }
}

void ChunkRows(int rows, const float* x, const float* w, int64_t k_count, float* acc,
               x86::StreamAhead<_MM_HINT_T1>* ahead, int64_t pairs) {
  switch (rows) {
    case 1: return ChunkTile<1>(x, w, k_count, acc, ahead, pairs);
    case 2: return ChunkTile<2>(x, w, k_count, acc, ahead, pairs);
    case 3: return ChunkTile<3>(x, w, k_count, acc, ahead, pairs);
    case 4: return ChunkTile<4>(x, w, k_count, acc, ahead, pairs);
    case 5: return ChunkTile<5>(x, w, k_count, acc, ahead, pairs);
    default: return ChunkTile<kTileRows>(x, w, k_count, acc, ahead, pairs);
  }
}

// The rows of one panel times one block of columns.
void PanelBlock(const MatmulArgs& args, Range panel, int64_t column, int groups, const BF16* w,
                Scratch& scratch) {
  const int64_t k_padded = args.weight->k_padded;
  const int64_t acc_stride = panel.size() * kColumnGroup;  // from group to group
  std::memset(scratch.acc, 0, groups * acc_stride * sizeof(float));
  const int64_t tiles = (panel.size() + kTileRows - 1) / kTileRows;
  x86::StreamAhead<_MM_HINT_T1> ahead(w + kChunk * groups * kColumnGroup);
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    const int64_t k_count = std::min(kChunk, k_padded - k);
    for (int64_t i = 0; i < k_count; i += kPair) {
      for (int g = 0; g < groups; ++g, w += kColumnGroup * kPair) {
        float* unpacked = scratch.w + (g * kChunk + i) * kColumnGroup;
        for (int half = 0; half < 2; ++half) {
          const Simd::Raw pairs = Simd::LoadRaw(w + half * 16);
          Simd::Store(unpacked + half * 8, Simd::Part<BF16, 0>(pairs));
          Simd::Store(unpacked + kColumnGroup + half * 8, Simd::Part<BF16, 1>(pairs));
        }
      }
    }
    // The next chunk of weights (a line for each pair of k and group) comes in evenly over this
    // one's arithmetic, which needs only L1.
    int64_t left = k_count / kPair * groups / 2;
    const int64_t pairs = (left + tiles * groups - 1) / (tiles * groups);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = panel.size() * tile / tiles;
      const int rows = static_cast<int>(panel.size() * (tile + 1) / tiles - first);
      for (int r = 0; r < rows; ++r) {
        const BF16* x = args.x + (panel.begin + first + r) * args.ldx + k;
        for (int64_t i = 0; i < k_count; i += 8) {
          _mm256_store_ps(scratch.x + r * kChunk + i, LoadBF16(x + i));
        }
      }
      for (int g = 0; g < groups; ++g) {
        ChunkRows(rows, scratch.x, scratch.w + g * kChunk * kColumnGroup, k_count,
                  scratch.acc + g * acc_stride + first * kColumnGroup, &ahead,
                  std::min(pairs, left));
        left -= std::min(pairs, left);
      }
    }
  }
  for (int64_t r = 0; r < panel.size(); ++r) {
    FinishRow(args, panel.begin + r, column, groups, scratch.acc + r * kColumnGroup, acc_stride);
  }
}

void Block(const MatmulArgs& args, int64_t column, int groups, const BF16* w, Scratch& scratch) {
  for (int64_t row = 0; row < args.rows; row += kPanelRows) {
    PanelBlock(args, {row, std::min(args.rows, row + kPanelRows)}, column, groups, w, scratch);
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
        FinishRow(args, r, column, static_cast<int>(width / kColumnGroup),
                  sums + r * kColumnBlock, kColumnGroup);
      }
    }
    return;
  }
  Scratch scratch;  // 50 KiB of stack
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - column);
    Block(args, column, static_cast<int>(width / kColumnGroup),
          weights(column), scratch);
  }
}

}  // namespace tiercel::kernels::avx2
