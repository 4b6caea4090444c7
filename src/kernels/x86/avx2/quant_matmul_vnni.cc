#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {
namespace {

// 6 × 2 sums, 2 vectors of weights and a broadcast of the 16 registers.
struct Dot256 {
  using Args = QuantMatmulArgs;
  using Sum = int32_t;
  using V = __m256i;
  using W = V;
  using X = W;
  static constexpr int kParts = 1;
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 2;
  // Of a block's columns 24 KiB stay in L1.
  static constexpr int64_t Chunk(int64_t) { return 384; }
  static V Zero() { return _mm256_setzero_si256(); }
  static V Load(const Sum* p) { return _mm256_load_si256(reinterpret_cast<const V*>(p)); }
  static void Store(Sum* p, V v) { _mm256_store_si256(reinterpret_cast<V*>(p), v); }
  static W LoadWeights(const char* p) { return _mm256_load_si256(reinterpret_cast<const W*>(p)); }
  static W Broadcast(const char* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return _mm256_set1_epi32(quad);
  }
  static V Dot(V sum, W x, W w) { return _mm256_dpbusd_avx_epi32(sum, x, w); }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width, const Sum* sums) {
    simd::FinishRow<Simd>(args, row, column, width, sums);
  }
};

}  // namespace

void QuantMatmulVnni(const QuantMatmulArgs& args, Share share) {
  simd::Matmul<Dot256>(args, share);
}

// Ten independent chains cover the latency of 5 cycles on two ports.
int64_t PeakMatmulI8Vnni(int64_t iterations) {
  constexpr int kChains = 10;
  __m256i acc[kChains];
  for (__m256i& x : acc) x = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(-5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) acc[c] = _mm256_dpbusd_avx_epi32(acc[c], a, b);
    asm volatile("" : "+x"(a), "+x"(b));
  }
  for (__m256i& x : acc) asm volatile("" : : "x"(x));
  return iterations * kChains * 32 * 2;
}

}  // namespace tiercel::kernels::avx2
