// What happens to a W8A8 matmul's INT32 sums before they are stored (ops.h, QuantMatmulArgs).
#pragma once

#include <immintrin.h>

#include "kernels/ops.h"
#include "kernels/x86/avx2/vector.h"
#include "kernels/x86/quantize_impl.h"

namespace tiercel::kernels::avx2 {

// Finishes the columns [column, column + width) of output row `row`. sums: [width], 32-byte
// aligned; width is a multiple of 16, of 32 for kSwiGlu.
static inline void FinishRow(const QuantMatmulArgs& args, int64_t row, int64_t column,
                             int64_t width, const int32_t* sums) {
  const float* bias = args.bias != nullptr ? args.bias + column : nullptr;
  const __m256 row_scale =
      _mm256_set1_ps(args.row_scale != nullptr ? args.row_scale[row] : 1.0f);  // · 1 is exact
  const auto value = [&](int64_t c) __attribute__((always_inline)) {
    const auto ints = [c](const int32_t* p) __attribute__((always_inline)) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + c));
    };
    const __m256i sum = _mm256_add_epi32(ints(sums), ints(args.acc_bias + column));
    const __m256 y = _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), row_scale),
                                   _mm256_loadu_ps(args.scale + column + c));
    return bias != nullptr ? _mm256_add_ps(y, _mm256_loadu_ps(bias + c)) : y;
  };
  const x86::Quantizer<Simd> quantize(args.quantized.scale, args.quantized.offset);
  const auto store = [&](int64_t c, __m256 v) __attribute__((always_inline)) {
    if (args.quantized.data == nullptr) {
      StoreBF16(args.out + row * args.ldo + c, v);
    } else {
      Simd::StoreBytes(args.quantized.data + row * args.quantized.ld + c,
                       quantize(RoundToBF16(v)));
    }
  };
  const int64_t at = row * args.ldo + column;
  switch (args.epilogue) {
    case Epilogue::kStore:
      for (int64_t c = 0; c < width; c += 8) store(column + c, value(c));
      return;
    case Epilogue::kAdd:
      for (int64_t c = 0; c < width; c += 8) {
        StoreBF16(args.out + at + c,
                  _mm256_add_ps(value(c), LoadBF16(args.residual + at + c)));
      }
      return;
    case Epilogue::kSwiGlu:
      for (int64_t c = 0; c < width; c += c % 16 == 0 ? 8 : 24) {
        const __m256 gate = value(c);
        const __m256 negated = _mm256_sub_ps(_mm256_setzero_ps(), gate);
        const __m256 silu =
            _mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1.0f), Exp(negated)));
        store((column + c / 32 * 32) / 2 + c % 32, _mm256_mul_ps(silu, value(c + 16)));
      }
      return;
    case Epilogue::kStoreF32:
      for (int64_t c = 0; c < width; c += 8) _mm256_storeu_ps(args.out_f32 + at + c, value(c));
      return;
  }
}

}  // namespace tiercel::kernels::avx2
