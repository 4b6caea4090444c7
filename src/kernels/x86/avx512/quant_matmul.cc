#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"
#include "kernels/x86/epilogue_impl.h"
#include "kernels/x86/vnni_matmul_impl.h"

namespace tiercel::kernels::avx512 {
namespace {

// 6 × 4 sums, 4 vectors of weights and a broadcast of the 32 registers; a quad is 24 vpdpbusd (12
// cycles on two ports, 24 on Zen 4) on 10 loads.
struct Dot512 {
  using V = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 4;
  static V Zero() { return _mm512_setzero_si512(); }
  static V Load(const void* p) { return _mm512_load_si512(p); }
  static void Store(int32_t* p, V v) { _mm512_store_si512(p, v); }
  static V Broadcast(const uint8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return _mm512_set1_epi32(quad);
  }
  static V Dot(V sum, V x, V w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static void FinishRow(const QuantMatmulArgs& args, int64_t row, int64_t column, int64_t width,
                        const int32_t* sums) {
    x86::FinishRow<Simd>(args, row, column, width, sums);
  }
};

}  // namespace

void QuantMatmul(const QuantMatmulArgs& args, Share share) {
  x86::VnniMatmul<Dot512>(args, share);
}

}  // namespace tiercel::kernels::avx512
