// Matmul by vdpbf16ps. One instruction adds the products of a k pair for 16 columns; every output
// element is one chain of them over k ascending, so its bits do not depend on the tile it is in.
#include <algorithm>
#include <cstring>

#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"
#include "kernels/x86/epilogue_impl.h"

namespace tiercel::kernels::avx512 {
namespace {

// 6 rows × 4 vectors: 24 accumulators + 4 weight vectors of the 32 registers. One k pair is 24
// vdpbf16ps (24 cycles on Zen 4) on 4 loads of weights and 6 broadcasts from L1.
constexpr int kMaxRows = 6;

[[gnu::always_inline]] inline __m512bh Bits(__m512i v) {
  return reinterpret_cast<__m512bh>(v);
}

// `next` (or null) is the block that comes after this one: its lines are requested evenly over
// the passes that the rows need over this one, so that memory works while the core computes.
template <int kRows, int kGroups>
void Tile(const MatmulArgs& args, int64_t row, int64_t column, const BF16* w, const char* next,
          int lines_per_step) {
  __m512 acc[kRows][kGroups];
  for (auto& r : acc) {
    for (__m512& a : r) a = _mm512_setzero_ps();
  }
  const BF16* x = args.x + row * args.ldx;
  const int64_t k_padded = args.weight->k_padded;
  for (int64_t k = 0; k < k_padded; k += kPair) {
    __m512bh wv[kGroups];
    for (int g = 0; g < kGroups; ++g) wv[g] = Bits(_mm512_load_si512(w + g * 32));
    w += kGroups * 32;
    for (int i = 0; i < lines_per_step; ++i, next += 64) _mm_prefetch(next, _MM_HINT_T1);
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      std::memcpy(&pair, x + r * args.ldx + k, sizeof(pair));
      const __m512bh xv = Bits(_mm512_set1_epi32(pair));
      for (int g = 0; g < kGroups; ++g) acc[r][g] = _mm512_dpbf16_ps(acc[r][g], wv[g], xv);
    }
  }
  alignas(64) float finished[kColumnBlock];
  for (int r = 0; r < kRows; ++r) {
    for (int g = 0; g < kGroups; ++g) _mm512_store_ps(finished + g * 16, acc[r][g]);
    x86::FinishRow<Simd>(args, row + r, column, kGroups * 16, finished);
  }
}

template <int kGroups>
void TileOf(int rows, const MatmulArgs& args, int64_t row, int64_t column, const BF16* w,
            const char* next, int lines_per_step) {
  switch (rows) {
    case 1: return Tile<1, kGroups>(args, row, column, w, next, lines_per_step);
    case 2: return Tile<2, kGroups>(args, row, column, w, next, lines_per_step);
    case 3: return Tile<3, kGroups>(args, row, column, w, next, lines_per_step);
    case 4: return Tile<4, kGroups>(args, row, column, w, next, lines_per_step);
    case 5: return Tile<5, kGroups>(args, row, column, w, next, lines_per_step);
    default: return Tile<kMaxRows, kGroups>(args, row, column, w, next, lines_per_step);
  }
}

}  // namespace

void MatmulBf16Dot(const MatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  // Rows in passes of nearly equal height: 8 rows are 4 + 4, not 6 + 2.
  const int64_t passes = (args.rows + kMaxRows - 1) / kMaxRows;
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - column);
    const BF16* w = static_cast<const BF16*>(weight.data) + column * weight.k_padded;
    // A full block that follows takes 4 lines a k pair in all.
    const bool prefetch = column + 2 * kColumnBlock <= range.end;
    const char* next = reinterpret_cast<const char*>(w + width * weight.k_padded);
    const int lines_per_step = passes == 1 ? 4 : passes < 4 ? 2 : 1;
    int64_t prefetch_passes = prefetch ? 4 / lines_per_step : 0;
    for (int64_t pass = 0; pass < passes; ++pass) {
      const int64_t row = args.rows * pass / passes;
      const int rows = static_cast<int>(args.rows * (pass + 1) / passes - row);
      const int lines = prefetch_passes > 0 ? lines_per_step : 0;
      switch (width / kColumnGroup) {
        case 1: TileOf<1>(rows, args, row, column, w, next, lines); break;
        case 2: TileOf<2>(rows, args, row, column, w, next, lines); break;
        case 3: TileOf<3>(rows, args, row, column, w, next, lines); break;
        default: TileOf<4>(rows, args, row, column, w, next, lines); break;
      }
      next += lines * 64 * (weight.k_padded / kPair);
      --prefetch_passes;
    }
  }
}

}  // namespace tiercel::kernels::avx512
