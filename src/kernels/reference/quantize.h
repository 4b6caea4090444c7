// The quantization of ops.h' QuantizedRows, for the scalar operators that do it.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>

#include "kernels/ops.h"

namespace tiercel::kernels::reference {

// Rows whose largest value is below it are quantized to zeros.
inline constexpr float kSmallestRow = 0x1p-100f;

inline uint8_t QuantizeStatic(BF16 x, float scale, float offset) {
  const float q = ToFloat(x) / scale + offset;
  return static_cast<uint8_t>(std::nearbyint(std::min(std::max(-128.0f, q), 127.0f)) + 128.0f);
}

// The scale of n values by their largest magnitude, and their quantized bytes.
template <typename F>
float QuantizeByLargest(F&& value, int64_t n, uint8_t* to) {
  float largest = 0;
  for (int64_t i = 0; i < n && !std::isnan(largest); ++i) {
    const float magnitude = std::abs(ToFloat(value(i)));
    if (!(magnitude <= largest)) largest = magnitude;
  }
  const float scale = largest / 127.0f;
  const bool zero = !(largest >= kSmallestRow) || std::isinf(largest);
  for (int64_t i = 0; i < n; ++i) to[i] = zero ? 128 : QuantizeStatic(value(i), scale, 0.0f);
  return scale;
}

template <typename F>
void QuantizeBlocks(F&& value, int64_t n, QuantizedBlock* out) {
  for (int64_t begin = 0; begin < n; begin += kBlockInputs, ++out) {
    uint8_t bytes[kBlockInputs];
    std::fill(std::begin(bytes), std::end(bytes), uint8_t{128});
    *out = {};
    out->scale = QuantizeByLargest([&](int64_t i) { return value(begin + i); },
                                   std::min(kBlockInputs, n - begin), bytes);
    for (int64_t i = 0; i < kBlockInputs; ++i) {
      const int q = bytes[i] - 128;
      out->q[i] = static_cast<int8_t>(q);
      out->minus_sum -= q;
      out->minus_sum64[i / 64] -= q;
      out->minus_sum32[i / 32] -= q;
      out->minus_sum16[i / 16] -= q;
    }
  }
}

// Quantizes row `row` of n values, value(i) each.
template <typename F>
void QuantizeRow(F&& value, int64_t n, int64_t row, const QuantizedRows& out) {
  uint8_t* to = out.data + row * out.ld;
  if (out.blocks) return QuantizeBlocks(value, n, reinterpret_cast<QuantizedBlock*>(to));
  if (out.row_scale == nullptr) {
    for (int64_t i = 0; i < n; ++i) to[i] = QuantizeStatic(value(i), out.scale, out.offset);
    return;
  }
  out.row_scale[row] = QuantizeByLargest(value, n, to);
}

}  // namespace tiercel::kernels::reference
