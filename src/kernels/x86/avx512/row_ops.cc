#include "kernels/simd/row_ops_impl.h"

#include <bit>

#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {
namespace {

// Lanes of the last, partial vector.
__mmask16 TailMask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

}  // namespace

int64_t ArgMax(const float* x, int64_t n, float* max) {
  const __m512 none = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 best = none;
  __m512i best_index = _mm512_set1_epi32(0);
  __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < n; i += 16) {
    const __m512 v = n - i >= 16 ? _mm512_loadu_ps(x + i)
                                 : _mm512_mask_loadu_ps(none, TailMask(n - i), x + i);
    const __mmask16 greater = _mm512_cmp_ps_mask(v, best, _CMP_GT_OQ);  // false for a NaN
    best = _mm512_mask_mov_ps(best, greater, v);
    best_index = _mm512_mask_mov_epi32(best_index, greater, index);
    index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
  }
  *max = _mm512_reduce_max_ps(best);
  if (*max == -std::numeric_limits<float>::infinity()) return 0;
  const __mmask16 equal = _mm512_cmp_ps_mask(best, _mm512_set1_ps(*max), _CMP_EQ_OQ);
  return _mm512_mask_reduce_min_epi32(equal, best_index);
}

float SumExp(const float* x, int64_t n, float max, float scale) {
  return simd::SumExp<Simd>(x, n, max, scale);
}

int64_t CollectAtLeast(const float* x, int64_t n, float threshold, int32_t* indices,
                       int64_t capacity) {
  const __m512 t = _mm512_set1_ps(threshold);
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 valid = n - i >= 16 ? __mmask16{0xffff} : TailMask(n - i);
    const __mmask16 hit =
        _mm512_mask_cmp_ps_mask(valid, _mm512_maskz_loadu_ps(valid, x + i), t, _CMP_GE_OQ);
    if (hit == 0) continue;
    const int hits = std::popcount(static_cast<unsigned>(hit));
    if (count + hits <= capacity) {
      _mm512_mask_compressstoreu_epi32(
          indices + count, hit, _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(i))));
    } else {
      int64_t at = count;
      for (int j = 0; j < 16 && at < capacity; ++j) {
        if (hit >> j & 1) indices[at++] = static_cast<int32_t>(i + j);
      }
    }
    count += hits;
  }
  return count;
}

int64_t CountAtLeast(const float* x, int64_t n, float threshold) {
  const __m512 t = _mm512_set1_ps(threshold);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 valid = n - i >= 16 ? __mmask16{0xffff} : TailMask(n - i);
    count += std::popcount(static_cast<unsigned>(
        _mm512_mask_cmp_ps_mask(valid, _mm512_maskz_loadu_ps(valid, x + i), t, _CMP_GE_OQ)));
  }
  return count;
}

// Nothing is read: the masked lanes alone are stored.
void KeepAllowed(float* x, int64_t n, const uint32_t* allowed) {
  const __m512 none = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 valid = n - i >= 16 ? __mmask16{0xffff} : TailMask(n - i);
    const auto forbidden = static_cast<__mmask16>(~(allowed[i / 32] >> (i % 32)) & valid);
    if (forbidden != 0) _mm512_mask_storeu_ps(x + i, forbidden, none);
  }
}

void Scale(float* x, int64_t n, float factor) { simd::Scale<Simd>(x, n, factor); }

}  // namespace tiercel::kernels::avx512
