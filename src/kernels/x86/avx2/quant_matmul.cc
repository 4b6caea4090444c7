// W8A8 matmul without VNNI. vpmaddubsw would saturate (255·127 twice is more than 16 bits hold), so
// bytes are widened to 16 bits and multiplied by vpmaddwd, whose sums of two products are exact in
// 32. A lane's four bytes are taken apart by shifts into (k, k + 2) and (k + 1, k + 3).
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/stream_ahead.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {
namespace {

// 6 rows × 16 columns: 12 sums of the 16 registers.
constexpr int kTileRows = 6;
// k in chunks whose widened weights (64 · 128 · 2 = 16 KiB) stay in a 32 KiB L1; rows in panels
// whose sums between the chunks are 32 KiB of L2.
constexpr int64_t kChunk = 128;
constexpr int64_t kPanelRows = 126;
constexpr int64_t kChunkQuads = kChunk / kQuad;
constexpr int64_t kGroupWords = kColumnGroup * kQuad;  // of a quad: two vectors, each twice

[[gnu::always_inline]] inline __m256i LoadInts(const void* p) {
  return _mm256_load_si256(static_cast<const __m256i*>(p));
}
[[gnu::always_inline]] inline void StoreInts(void* p, __m256i v) {
  _mm256_store_si256(static_cast<__m256i*>(p), v);
}
// The even and the odd bytes, sign-extended to 16 bits.
[[gnu::always_inline]] inline __m256i Even(__m256i bytes) {
  return _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8);
}
[[gnu::always_inline]] inline __m256i Odd(__m256i bytes) { return _mm256_srai_epi16(bytes, 8); }

constexpr int64_t kAhead = 8192;

// One row is bound by memory: widen each weight in registers and use it at once.
template <int kGroups>
void OneRow(const QuantMatmulArgs& args, int64_t column, const int8_t* w) {
  constexpr int kVectors = 2 * kGroups;
  __m256i sum[kVectors];
  for (__m256i& s : sum) s = _mm256_setzero_si256();
  const __m256i low_bytes = _mm256_set1_epi16(0xff);
  simd::StreamAhead<simd::kToL1> ahead(w + kAhead);
  for (int64_t k = 0; k < args.weight->k_padded; k += kQuad, w += kVectors * 32) {
    int32_t quad;
    std::memcpy(&quad, args.x + k, sizeof(quad));
    const __m256i x = _mm256_set1_epi32(quad);
    const __m256i x_even = _mm256_and_si256(x, low_bytes);
    const __m256i x_odd = _mm256_srli_epi16(x, 8);
    for (int64_t i = k / kQuad & 1; i < kGroups; i += 2) ahead.AskPair();
    for (int v = 0; v < kVectors; ++v) {
      const __m256i bytes = LoadInts(w + v * 32);
      sum[v] = _mm256_add_epi32(sum[v], _mm256_madd_epi16(x_even, Even(bytes)));
      sum[v] = _mm256_add_epi32(sum[v], _mm256_madd_epi16(x_odd, Odd(bytes)));
    }
  }
  alignas(32) int32_t finished[kColumnBlock] = {};
  for (int v = 0; v < kVectors; ++v) StoreInts(finished + v * 8, sum[v]);
  simd::FinishRow<Simd>(args, 0, column, kVectors * 8, finished);
}

struct Scratch {
  alignas(64) int16_t w[kColumnBlock * kChunk];         // [group][quad][vector][even, odd][16]
  alignas(64) int32_t x[kTileRows * kChunkQuads * 2];   // [row][quad][even, odd]
  alignas(64) int32_t sums[kPanelRows * kColumnBlock];  // [row][width]
};

// sums += x · w for one group of 16 columns over one chunk of k. Asks for a line a quad with
// `ahead`, if it is not null.
template <int kRows>
void ChunkTile(const int32_t* x, const int16_t* w, int64_t quads, int32_t* sums, int64_t width,
               simd::StreamAhead<simd::kToL1>* ahead) {
  __m256i sum[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    sum[r][0] = LoadInts(sums + r * width);
    sum[r][1] = LoadInts(sums + r * width + 8);
  }
  for (int64_t quad = 0; quad < quads; ++quad, w += kGroupWords) {
    if (ahead != nullptr && quad % 2 == 0) ahead->AskPair();
    // The even bytes, then the odd ones: two vectors of weights at a time.
    for (int odd = 0; odd < 2; ++odd) {
      const __m256i w0 = LoadInts(w + odd * 16);
      const __m256i w1 = LoadInts(w + 32 + odd * 16);
      for (int r = 0; r < kRows; ++r) {
        const __m256i xv = _mm256_set1_epi32(x[(r * kChunkQuads + quad) * 2 + odd]);
        sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(xv, w0));
        sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(xv, w1));
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    StoreInts(sums + r * width, sum[r][0]);
    StoreInts(sums + r * width + 8, sum[r][1]);
  }
}

void ChunkRows(int rows, const int32_t* x, const int16_t* w, int64_t quads, int32_t* sums,
               int64_t width, simd::StreamAhead<simd::kToL1>* ahead) {
  switch (rows) {
    case 1: return ChunkTile<1>(x, w, quads, sums, width, ahead);
    case 2: return ChunkTile<2>(x, w, quads, sums, width, ahead);
    case 3: return ChunkTile<3>(x, w, quads, sums, width, ahead);
    case 4: return ChunkTile<4>(x, w, quads, sums, width, ahead);
    case 5: return ChunkTile<5>(x, w, quads, sums, width, ahead);
    default: return ChunkTile<kTileRows>(x, w, quads, sums, width, ahead);
  }
}

// The rows of one panel times one block of columns.
void PanelBlock(const QuantMatmulArgs& args, Range panel, int64_t column, int groups,
                const int8_t* w, Scratch& scratch) {
  const int64_t k_padded = args.weight->k_padded;
  const int64_t width = groups * kColumnGroup;
  std::memset(scratch.sums, 0, panel.size() * width * sizeof(int32_t));
  const int64_t tiles = (panel.size() + kTileRows - 1) / kTileRows;
  simd::StreamAhead<simd::kToL1> ahead(w + kChunk * width);
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    const int64_t quads = std::min(kChunk, k_padded - k) / kQuad;
    for (int64_t quad = 0; quad < quads; ++quad) {
      for (int g = 0; g < groups; ++g, w += kGroupWords) {
        int16_t* widened = scratch.w + (g * kChunkQuads + quad) * kGroupWords;
        for (int v = 0; v < 2; ++v) {
          const __m256i bytes = LoadInts(w + v * 32);
          StoreInts(widened + v * 32, Even(bytes));
          StoreInts(widened + v * 32 + 16, Odd(bytes));
        }
      }
    }
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = panel.size() * tile / tiles;
      const int rows = static_cast<int>(panel.size() * (tile + 1) / tiles - first);
      for (int r = 0; r < rows; ++r) {
        const uint8_t* x = args.x + (panel.begin + first + r) * args.ldx + k;
        int32_t* pairs = scratch.x + r * kChunkQuads * 2;
        for (int64_t quad = 0; quad < quads; ++quad) {
          uint32_t bytes;
          std::memcpy(&bytes, x + quad * kQuad, sizeof(bytes));
          pairs[2 * quad] = static_cast<int32_t>(bytes & 0x00ff00ffu);
          pairs[2 * quad + 1] = static_cast<int32_t>(bytes >> 8 & 0x00ff00ffu);
        }
      }
      for (int g = 0; g < groups; ++g) {
        // The next chunk of weights (a line a quad and group) comes in over the first steps.
        const bool ask = tile * groups + g < groups;
        ChunkRows(rows, scratch.x, scratch.w + g * kChunkQuads * kGroupWords, quads,
                  scratch.sums + first * width + g * kColumnGroup, width,
                  ask ? &ahead : nullptr);
      }
    }
  }
  for (int64_t r = 0; r < panel.size(); ++r) {
    simd::FinishRow<Simd>(args, panel.begin + r, column, width, scratch.sums + r * width);
  }
}

void Block(const QuantMatmulArgs& args, int64_t column, int groups, const int8_t* w,
           Scratch& scratch) {
  if (args.rows == 1) {
    switch (groups) {
      case 1: return OneRow<1>(args, column, w);
      case 2: return OneRow<2>(args, column, w);
      case 3: return OneRow<3>(args, column, w);
      default: return OneRow<4>(args, column, w);
    }
  }
  for (int64_t row = 0; row < args.rows; row += kPanelRows) {
    PanelBlock(args, {row, std::min(args.rows, row + kPanelRows)}, column, groups, w, scratch);
  }
}

}  // namespace

void QuantMatmul(const QuantMatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  Scratch scratch;  // 50 KiB of stack
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - column);
    Block(args, column, static_cast<int>(width / kColumnGroup),
          static_cast<const int8_t*>(weight.data) + column * weight.k_padded, scratch);
  }
}

// Ten independent sums: a vpmaddwd and the addition that it needs, of three ports.
int64_t PeakMatmulI8(int64_t iterations) {
  constexpr int kChains = 10;
  __m256i acc[kChains];
  for (__m256i& x : acc) x = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(-5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) {
      __m256i product = _mm256_madd_epi16(a, b);
      asm volatile("" : "+x"(product));  // each one anew
      acc[c] = _mm256_add_epi32(acc[c], product);
    }
    asm volatile("" : "+x"(a), "+x"(b));
  }
  for (__m256i& x : acc) asm volatile("" : : "x"(x));
  return iterations * kChains * 16 * 2;
}

}  // namespace tiercel::kernels::avx2
