// What happens to a W8A8 matmul's INT32 sums before they are stored (ops.h, QuantMatmulArgs).
#pragma once

#include "kernels/x86/avx512/epilogue.h"
#include "kernels/x86/quantize_impl.h"

namespace tiercel::kernels::avx512 {

// As FinishRow of BF16 matmuls. sums: [width], 64-byte aligned.
static inline void FinishRow(const QuantMatmulArgs& args, int64_t row, int64_t column,
                             int64_t width, const int32_t* sums) {
  const int32_t* acc_bias = args.acc_bias + column;
  const float* scale = args.scale + column;
  const float* bias = args.bias != nullptr ? args.bias + column : nullptr;
  const __m512 row_scale =
      _mm512_set1_ps(args.row_scale != nullptr ? args.row_scale[row] : 1.0f);  // · 1 is exact
  const auto value = [&](int64_t c) __attribute__((always_inline)) {
    const __m512i sum =
        _mm512_add_epi32(_mm512_load_si512(sums + c), _mm512_loadu_si512(acc_bias + c));
    const __m512 y = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), row_scale),
                                   _mm512_loadu_ps(scale + c));
    return bias != nullptr ? _mm512_add_ps(y, _mm512_loadu_ps(bias + c)) : y;
  };
  if (args.quantized.data != nullptr) {
    uint8_t* out = args.quantized.data + row * args.quantized.ld;
    const x86::Quantizer<Simd> quantize(args.quantized.scale, args.quantized.offset);
    StoreRow(args, row, column, width, value,
             [&](int64_t c, __m512 v) __attribute__((always_inline)) {
               Simd::StoreBytes(out + c, quantize(RoundToBF16(v)));
             });
  } else {
    BF16* out = args.out + row * args.ldo;
    StoreRow(args, row, column, width, value, [out](int64_t c, __m512 v) __attribute__((
                                                  always_inline)) { StoreBF16(out + c, v); });
  }
}

}  // namespace tiercel::kernels::avx512
