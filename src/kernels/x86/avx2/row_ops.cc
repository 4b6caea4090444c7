#include "kernels/simd/row_ops_impl.h"

#include <bit>

#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx2/vector.h"

namespace tiercel::kernels::avx2 {

int64_t ArgMax(const float* x, int64_t n, float* max) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  __m256 best = _mm256_set1_ps(kNone);
  __m256i best_index = _mm256_setzero_si256();
  __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    const __m256 greater = _mm256_cmp_ps(v, best, _CMP_GT_OQ);  // false for a NaN
    best = _mm256_blendv_ps(best, v, greater);
    best_index = _mm256_blendv_epi8(best_index, index, _mm256_castps_si256(greater));
    index = _mm256_add_epi32(index, _mm256_set1_epi32(8));
  }
  float values[8];
  int32_t indices[8];
  _mm256_storeu_ps(values, best);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(indices), best_index);
  float value = kNone;
  int64_t at = 0;
  for (int lane = 0; lane < 8; ++lane) {
    if (values[lane] > value || (values[lane] == value && value != kNone && indices[lane] < at)) {
      value = values[lane];
      at = indices[lane];
    }
  }
  for (; i < n; ++i) {
    if (x[i] > value) {
      value = x[i];
      at = i;
    }
  }
  *max = value;
  return at;
}

float SumExp(const float* x, int64_t n, float max, float scale) {
  return simd::SumExp<Simd>(x, n, max, scale);
}

int64_t CollectAtLeast(const float* x, int64_t n, float threshold, int32_t* indices,
                       int64_t capacity) {
  int64_t count = 0;
  const auto take = [&](int64_t i) {
    if (count < capacity) indices[count] = static_cast<int32_t>(i);
    ++count;
  };
  const __m256 t = _mm256_set1_ps(threshold);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    unsigned hit = static_cast<unsigned>(
        _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), t, _CMP_GE_OQ)));
    for (; hit != 0; hit &= hit - 1) take(i + std::countr_zero(hit));
  }
  for (; i < n; ++i) {
    if (x[i] >= threshold) take(i);
  }
  return count;
}

int64_t CountAtLeast(const float* x, int64_t n, float threshold) {
  const __m256 t = _mm256_set1_ps(threshold);
  int64_t count = 0, i = 0;
  for (; i + 8 <= n; i += 8) {
    count += std::popcount(static_cast<unsigned>(
        _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), t, _CMP_GE_OQ))));
  }
  for (; i < n; ++i) count += x[i] >= threshold;
  return count;
}

void KeepAllowed(float* x, int64_t n, const uint32_t* allowed) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const int byte = static_cast<int>(allowed[i / 32] >> (i % 32) & 0xff);
    if (byte == 0xff) continue;
    const __m256i forbidden = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(byte), bits),
                                                 _mm256_setzero_si256());
    _mm256_maskstore_ps(x + i, forbidden, _mm256_set1_ps(kNone));
  }
  for (; i < n; ++i) {
    if ((allowed[i / 32] >> (i % 32) & 1) == 0) x[i] = kNone;
  }
}

void Scale(float* x, int64_t n, float factor) { simd::Scale<Simd>(x, n, factor); }

}  // namespace tiercel::kernels::avx2
