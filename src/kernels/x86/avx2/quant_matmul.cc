// W8A8 matmul without VNNI. vpmaddubsw would saturate (255·127 twice is more than 16 bits hold), so
// bytes are widened to 16 bits and multiplied by vpmaddwd, whose sums of two products are exact in
// 32. A lane's four bytes are taken apart by shifts into (k, k + 2) and (k + 1, k + 3).
#include <immintrin.h>

#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/matmul_impl.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {
namespace {

struct WideningProduct {
  using Args = QuantMatmulArgs;
  using Sum = int32_t;
  using V = __m256i;
  using W = V;
  using X = V;  // two numbers of 16 bits a lane
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 6;     // 12 sums,
  static constexpr int kTileVectors = 2;  // 2 registers of weights, a broadcast and a product of the 16
  static constexpr int kParts = 2;        // the even and the odd bytes
  static constexpr int kUnpackRows = 7;   // more than one tile
  static V Zero() { return _mm256_setzero_si256(); }
  static V Load(const Sum* p) { return _mm256_load_si256(reinterpret_cast<const V*>(p)); }
  static void Store(Sum* p, V v) { _mm256_store_si256(reinterpret_cast<V*>(p), v); }
  static W LoadWeights(const char* p) { return _mm256_load_si256(reinterpret_cast<const W*>(p)); }
  static X LoadOperands(const char* p) { return LoadWeights(p); }
  // Sign-extended.
  template <int part>
  static X Part(W quads) { return _mm256_srai_epi16(part == 0 ? _mm256_slli_epi16(quads, 8) : quads, 8); }
  static void Unpack(const char* quads, char* to, int64_t stride) {
    const W bytes = LoadWeights(quads);
    _mm256_store_si256(reinterpret_cast<V*>(to), Part<0>(bytes));
    _mm256_store_si256(reinterpret_cast<V*>(to + stride), Part<1>(bytes));
  }
  // x's bytes are unsigned.
  static void UnpackX(const char* x, int64_t bytes, char* to) {
    const V low_bytes = _mm256_set1_epi16(0xff);
    for (int64_t i = 0; i < bytes; i += 32, to += 64) {
      const V quads = _mm256_loadu_si256(reinterpret_cast<const V*>(x + i));
      const V even = _mm256_and_si256(quads, low_bytes), odd = _mm256_srli_epi16(quads, 8);
      const V first = _mm256_unpacklo_epi32(even, odd), second = _mm256_unpackhi_epi32(even, odd);  // in each half
      _mm256_store_si256(reinterpret_cast<V*>(to), _mm256_permute2x128_si256(first, second, 0x20));
      _mm256_store_si256(reinterpret_cast<V*>(to + 32), _mm256_permute2x128_si256(first, second, 0x31));
    }
  }
  static X Broadcast(const char* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return _mm256_set1_epi32(pair);
  }
  // In sum's register: GCC would first add the products of both parts, and have none left for the sums.
  static V Dot(V sum, X x, X w) {
    V product;
    asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(x), "x"(w));
    return sum;
  }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width, const Sum* sums) {
    simd::FinishRow<Simd>(args, row, column, width, sums);
  }
};

}  // namespace

void QuantMatmul(const QuantMatmulArgs& args, Share share) { simd::Matmul<WideningProduct>(args, share); }

// Ten independent sums of what the matmul does.
int64_t PeakMatmulI8(int64_t iterations) {
  constexpr int kChains = 10;
  __m256i acc[kChains];
  for (__m256i& x : acc) x = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(-5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) acc[c] = WideningProduct::Dot(acc[c], a, b);
    asm volatile("" : "+x"(a), "+x"(b));
  }
  for (__m256i& x : acc) asm volatile("" : : "x"(x));
  return iterations * kChains * 16 * 2;
}

}  // namespace tiercel::kernels::avx2
