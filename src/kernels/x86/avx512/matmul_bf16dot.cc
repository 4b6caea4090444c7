// Matmul by vdpbf16ps. One instruction adds the products of a k pair for 16 columns.
#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {
namespace {

// 6 rows × 4 vectors: 24 sums + 4 weight vectors of the 32 registers. One k pair is 24
// vdpbf16ps (24 cycles on Zen 4) on 4 loads of weights and 6 broadcasts from L1.
struct DotBf16 {
  using Args = MatmulArgs;
  using Sum = float;
  using V = __m512;
  using W = __m512bh;
  using X = W;
  static constexpr int kParts = 1;
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 4;
  // A block's columns: 128 KiB, and as much of the next ones is on its way. L2 holds both beside x, and a step takes
  // its sums from L1 once in 12288 cycles.
  static constexpr int64_t Chunk(int64_t) { return 2048; }
  static V Zero() { return _mm512_setzero_ps(); }
  static V Load(const Sum* p) { return _mm512_load_ps(p); }
  static void Store(Sum* p, V v) { _mm512_store_ps(p, v); }
  static W LoadWeights(const char* p) { return reinterpret_cast<W>(_mm512_load_si512(p)); }
  static W Broadcast(const char* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return reinterpret_cast<W>(_mm512_set1_epi32(pair));
  }
  static V Dot(V sum, W x, W w) { return _mm512_dpbf16_ps(sum, w, x); }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width, const Sum* sums) {
    simd::FinishRow<Simd>(args, row, column, width, sums);
  }
};

}  // namespace

void MatmulBf16Dot(const MatmulArgs& args, Share share) { simd::Matmul<DotBf16>(args, share); }

}  // namespace tiercel::kernels::avx512
