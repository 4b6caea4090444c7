#pragma once

#include <immintrin.h>

#include <cstdint>

namespace tiercel::kernels::x86 {

// q = sixteen bytes − 128; returns the bytes' sum. All is aligned.
[[gnu::always_inline]] inline int32_t TakeBytes(const uint8_t* bytes, int8_t* q) {
  const __m128i v = _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
  _mm_store_si128(reinterpret_cast<__m128i*>(q), _mm_xor_si128(v, _mm_set1_epi8(static_cast<char>(0x80))));
  const __m128i sums = _mm_sad_epu8(v, _mm_setzero_si128());  // of the first eight bytes and of the others
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4);
}

}  // namespace tiercel::kernels::x86
