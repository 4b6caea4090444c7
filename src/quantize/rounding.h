// What all searches for scales share.
#pragma once

#include <bit>
#include <cstdint>

namespace tiercel::quantize {

// Adding 1.5 · 2²³ leaves no bits for a fraction: rounds to nearest, ties to even. |x| < 2²².
inline float Round(float x) {
  constexpr float kRound = 12582912.0f;
  return (x + kRound) - kRound;
}

// The value of the largest magnitude; what is not finite is larger than all.
inline float Largest(const float* w, int64_t count) {
  // The bits of positive floats sort as they do, infinities and NaN last.
  int32_t bits = 0;
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t magnitude = std::bit_cast<int32_t>(w[i]) & 0x7fffffff;
    if (magnitude > bits) largest = w[i];
    if (magnitude > bits) bits = magnitude;
  }
  return largest;
}

}  // namespace tiercel::quantize
