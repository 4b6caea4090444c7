// Of the block formats whose scales have six bits (BlockScales::kSubMin).
#pragma once

#include <immintrin.h>

namespace tiercel::kernels::x86 {

// Of kSubMin the scales' (kPart 0) or the minima's (1) six bits, of an odd group or an even one, from its bytes of `low`
// and `high`.
template <int kPart, bool kOdd>
[[gnu::always_inline]] inline __m128i SixBitsOf(__m128i low, __m128i high) {
  const __m128i four = kPart == 0 ? low : _mm_srli_epi16(low, 4);
  const __m128i up = kOdd ? (kPart == 0 ? high : _mm_srli_epi16(high, 2))
                          : (kPart == 0 ? _mm_slli_epi16(high, 4) : _mm_slli_epi16(high, 2));
  return _mm_or_si128(_mm_and_si128(four, _mm_set1_epi8(15)), _mm_and_si128(up, _mm_set1_epi8(0x30)));
}

}  // namespace tiercel::kernels::x86
