// What happens to a matmul's FP32 accumulators before they are stored (ops.h, Epilogue).
#pragma once

#include <immintrin.h>

#include "kernels/ops.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {

// Stores the columns [column, column + width) of output row `row`, which are sum(c), 16 from c on.
// width is a multiple of 16, of 32 for kSwiGlu. store(c, v): 16 BF16 outputs from the row's c on.
template <typename Args, typename Sum, typename Store>
[[gnu::always_inline]] static inline void StoreRow(const Args& args, int64_t row, int64_t column,
                                                   int64_t width, Sum&& sum, Store&& store) {
  const int64_t at = row * args.ldo + column;
  switch (args.epilogue) {
    case Epilogue::kStore:
      for (int64_t c = 0; c < width; c += 16) store(column + c, sum(c));
      return;
    case Epilogue::kAdd:
      for (int64_t c = 0; c < width; c += 16) {
        store(column + c, _mm512_add_ps(sum(c), LoadBF16(args.residual + at + c)));
      }
      return;
    case Epilogue::kSwiGlu:
      for (int64_t c = 0; c < width; c += 32) {
        const __m512 gate = sum(c);
        const __m512 one = _mm512_set1_ps(1.0f);
        const __m512 negated = _mm512_sub_ps(_mm512_setzero_ps(), gate);
        const __m512 silu = _mm512_div_ps(gate, _mm512_add_ps(one, Exp(negated)));
        store((column + c) / 2, _mm512_mul_ps(silu, sum(c + 16)));
      }
      return;
    case Epilogue::kStoreF32:
      for (int64_t c = 0; c < width; c += 16) _mm512_storeu_ps(args.out_f32 + at + c, sum(c));
      return;
  }
}

// Finishes the columns [column, column + width) of output row `row`. acc: [width], 64-byte
// aligned, in L1 (the tile that was just computed). Narrow rounds to BF16: StoreBF16, or a faster
// one of an ISA's own.
template <void (*Narrow)(BF16*, __m512) = StoreBF16>
static inline void FinishRow(const MatmulArgs& args, int64_t row, int64_t column, int64_t width,
                             const float* acc) {
  const float* bias = args.bias != nullptr ? args.bias + column : nullptr;
  const auto sum = [&](int64_t c) __attribute__((always_inline)) {
    const __m512 v = _mm512_load_ps(acc + c);
    return bias != nullptr ? _mm512_add_ps(v, _mm512_loadu_ps(bias + c)) : v;
  };
  BF16* out = args.out + row * args.ldo;
  StoreRow(args, row, column, width, sum, [out](int64_t c, __m512 v) __attribute__((
                                              always_inline)) { Narrow(out + c, v); });
}

}  // namespace tiercel::kernels::avx512
