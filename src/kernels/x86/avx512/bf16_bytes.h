// Bytes as BF16, which has every E4M3 and INT8 number, for sources that are compiled with AVX512-VBMI: vpermi2b reads a BF16's two
// bytes from two tables of 128.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "base/e4m3.h"

namespace tiercel::kernels::avx512 {
namespace {

// The upper and the lower bytes of the BF16 that equal the codes without a sign.
struct Tables {
  alignas(64) uint8_t upper[128], lower[128];
  // mantissa · 2^exponent with mantissa < 256 and an ordinary exponent
  constexpr void Set(int code, int mantissa, int exponent) {
    for (; mantissa > 0 && mantissa < 128; mantissa *= 2) --exponent;
    const int bits = mantissa == 0 ? 0 : (exponent + 7 + 127) << 7 | (mantissa - 128);
    upper[code] = static_cast<uint8_t>(bits >> 8);
    lower[code] = static_cast<uint8_t>(bits);
  }
};
// Of codes from 8 on (1 + mantissa / 8) · 2^(exponent − 7).
constexpr Tables TablesOfE4M3() {
  Tables tables = {};
  for (int code = 0; code < 128; ++code) {
    const int exponent = code >> 3, mantissa = code & 7;
    tables.Set(code, exponent > 0 ? 8 + mantissa : mantissa, (exponent > 0 ? exponent : 1) - 10);
  }
  return tables;
}
constexpr Tables TablesOfInt8() {
  Tables tables = {};
  for (int code = 0; code < 128; ++code) tables.Set(code, code, 0);
  return tables;
}
constexpr Tables kE4M3 = TablesOfE4M3(), kInt8 = TablesOfInt8();

// Of 64 numbers.
struct Bf16Bytes {
  __m512i lower, upper;
};
// Element: E4M3, or int8_t from −127 on.
template <typename Element>
[[gnu::always_inline]] inline Bf16Bytes BytesOf(__m512i codes) {
  constexpr bool is_int8 = std::is_same_v<Element, int8_t>;
  constexpr const Tables& tables = is_int8 ? kInt8 : kE4M3;
  const auto half = [](const uint8_t* p) __attribute__((always_inline)) { return _mm512_load_si512(p); };
  const __m512i magnitudes = is_int8 ? _mm512_abs_epi8(codes) : codes;  // in the low seven bits
  const __m512i upper = _mm512_permutex2var_epi8(half(tables.upper), magnitudes, half(tables.upper + 64));
  return {_mm512_permutex2var_epi8(half(tables.lower), magnitudes, half(tables.lower + 64)),
          // upper | (codes & 0x80)
          _mm512_ternarylogic_epi32(upper, codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8)};
}

}  // namespace
}  // namespace tiercel::kernels::avx512
