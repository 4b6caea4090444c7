// FP8 E4M3 (OCP, "fn"): sign, four bits of exponent with the bias 7, three of mantissa; no infinities, one NaN.
#pragma once

#include <bit>
#include <cstdint>

namespace tiercel {

constexpr bool IsE4M3NaN(uint8_t code) { return (code & 0x7f) == 0x7f; }

// The value of a code that is no NaN. (A NaN's gives 480.)
inline float E4M3ToFloat(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  const float value = magnitude >= 8 ? std::bit_cast<float>((magnitude << 20) + (120u << 23))
                                     : static_cast<float>(magnitude) * 0x1p-9f;
  return code & 0x80 ? -value : value;
}

}  // namespace tiercel
