// The quantization of ops.h' QuantizedRows, for the scalar operators that do it.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/ops.h"

namespace tiercel::kernels::reference {

// Rows whose largest value is below it are quantized to zeros.
inline constexpr float kSmallestRow = 0x1p-100f;

inline uint8_t QuantizeStatic(BF16 x, float scale, float offset) {
  const float q = ToFloat(x) / scale + offset;
  return static_cast<uint8_t>(std::nearbyint(std::min(std::max(-128.0f, q), 127.0f)) + 128.0f);
}

// Quantizes row `row` of n values, value(i) each.
template <typename F>
void QuantizeRow(F&& value, int64_t n, int64_t row, const QuantizedRows& out) {
  uint8_t* to = out.data + row * out.ld;
  if (out.row_scale == nullptr) {
    for (int64_t i = 0; i < n; ++i) to[i] = QuantizeStatic(value(i), out.scale, out.offset);
    return;
  }
  float largest = 0;
  for (int64_t i = 0; i < n && !std::isnan(largest); ++i) {
    const float magnitude = std::abs(ToFloat(value(i)));
    if (!(magnitude <= largest)) largest = magnitude;
  }
  const float scale = largest / 127.0f;
  out.row_scale[row] = scale;
  const bool zero = !(largest >= kSmallestRow) || std::isinf(largest);
  for (int64_t i = 0; i < n; ++i) to[i] = zero ? 128 : QuantizeStatic(value(i), scale, 0.0f);
}

}  // namespace tiercel::kernels::reference
