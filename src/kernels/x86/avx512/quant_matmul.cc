#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {
namespace {

// 6 × 4 sums, 4 vectors of weights and a broadcast of the 32 registers; a quad is 24 vpdpbusd (12
// cycles on two ports, 24 on Zen 4) on 10 loads.
struct Dot512 {
  using Args = QuantMatmulArgs;
  using Sum = int32_t;
  using V = __m512i;
  using W = V;
  using X = W;
  static constexpr int kParts = 1;
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 4;
  // Of a block's columns 24 KiB stay in L1 for the second step. Many steps rather take their sums from L1 less often, once
  // in 6144 cycles, and the weights from L2.
  static constexpr int64_t Chunk(int64_t steps) { return steps <= 2 ? 384 : 1024; }
  static V Zero() { return _mm512_setzero_si512(); }
  static V Load(const Sum* p) { return _mm512_load_si512(p); }
  static void Store(Sum* p, V v) { _mm512_store_si512(p, v); }
  static W LoadWeights(const char* p) { return _mm512_load_si512(p); }
  static W Broadcast(const char* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return _mm512_set1_epi32(quad);
  }
  static V Dot(V sum, W x, W w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width, const Sum* sums) {
    simd::FinishRow<Simd>(args, row, column, width, sums);
  }
};

}  // namespace

void QuantMatmul(const QuantMatmulArgs& args, Share share) {
  simd::Matmul<Dot512>(args, share);
}

}  // namespace tiercel::kernels::avx512
