// E4M3 numbers as BF16, for sources that are compiled with AVX512-VBMI: vpermi2b reads a BF16's two bytes from two tables
// of 128.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace tiercel::kernels::avx512 {
namespace {

// The upper and the lower bytes of the BF16 that equal the codes without a sign.
struct Tables {
  alignas(64) uint8_t upper[128], lower[128];
};
constexpr Tables MakeTables() {
  Tables tables = {};
  for (int code = 0; code < 128; ++code) {
    int exponent = code >> 3, mantissa = code & 7;  // 8 and more: mantissa / 8 · 2^(exponent − 7)
    if (exponent > 0) mantissa += 8;
    if (exponent == 0) exponent = 1;
    for (; mantissa > 0 && mantissa < 8; mantissa *= 2) --exponent;
    const int bits = mantissa == 0 ? 0 : (exponent - 7 + 127) << 7 | (mantissa - 8) << 4;
    tables.upper[code] = static_cast<uint8_t>(bits >> 8);
    tables.lower[code] = static_cast<uint8_t>(bits);
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

// Of 64 codes.
struct E4M3Bytes {
  __m512i lower, upper;
};
[[gnu::always_inline]] inline E4M3Bytes BytesOf(__m512i codes) {
  const auto half = [](const uint8_t* p) __attribute__((always_inline)) { return _mm512_load_si512(p); };
  const __m512i magnitude = _mm512_permutex2var_epi8(half(kTables.upper), codes, half(kTables.upper + 64));
  return {_mm512_permutex2var_epi8(half(kTables.lower), codes, half(kTables.lower + 64)),
          // magnitude | (codes & 0x80)
          _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8)};
}

}  // namespace
}  // namespace tiercel::kernels::avx512
