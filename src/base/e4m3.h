// FP8 E4M3 (OCP, "fn"): sign, four bits of exponent with the bias 7, three of mantissa; no infinities, one NaN.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace tiercel {

struct E4M3 {
  uint8_t bits;
  friend bool operator==(E4M3, E4M3) = default;
};
static_assert(sizeof(E4M3) == 1);

constexpr bool IsE4M3NaN(uint8_t code) { return (code & 0x7f) == 0x7f; }

// The value of a code that is no NaN. (A NaN's gives 480.)
inline float E4M3ToFloat(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  const float value = magnitude >= 8 ? std::bit_cast<float>((magnitude << 20) + (120u << 23))
                                     : static_cast<float>(magnitude) * 0x1p-9f;
  return code & 0x80 ? -value : value;
}
inline float ToFloat(E4M3 v) { return E4M3ToFloat(v.bits); }

// The number nearest to a v that is no NaN, ties to even; ±448, the largest, for what lies beyond.
inline E4M3 ToE4M3(float v) {
  const uint32_t sign = std::bit_cast<uint32_t>(v) >> 24 & 0x80u;
  const float magnitude = std::min(std::abs(v), 448.0f);
  const uint32_t u = std::bit_cast<uint32_t>(magnitude);
  // Below 2⁻⁶ codes are multiples of 2⁻⁹, which a sum with 2¹⁴ leaves in its low bits, rounded.
  const uint32_t code = magnitude < 0x1p-6f ? std::bit_cast<uint32_t>(magnitude + 0x1p14f) - 0x46800000u
                                            : ((u + 0x7ffffu + (u >> 20 & 1u)) >> 20) - (120u << 3);
  return E4M3{static_cast<uint8_t>(sign | code)};
}

}  // namespace tiercel
