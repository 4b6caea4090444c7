// Test of what every attention kernel must do: written as bytes (AttentionArgs::quantized), its outputs
// are those that it writes as BF16, quantized.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/ops.h"
#include "kernels/reference/quantize.h"

namespace tiercel::kernels {

// `run` calls the kernel for all workers. args.out holds what it wrote as BF16.
template <typename Run>
void ExpectBytesOfAttention(AttentionArgs args, int64_t rows, Run&& run) {
  constexpr uint8_t kCanary = 0x5a;
  constexpr int64_t kGap = 40;  // behind a row, which nobody may touch
  const int64_t width = int64_t{args.num_q_heads} * args.layout.head_dim;
  std::vector<uint8_t> bytes(rows * (width + kGap), kCanary);
  const BF16* const out = args.out;
  args.out = nullptr;
  // Values of about ±1: some of them saturate.
  args.quantized = {bytes.data(), width + kGap, nullptr, 0.01f, 3.0f};
  run(args);
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<uint8_t> expected(width + kGap, kCanary);
    for (int64_t i = 0; i < width; ++i) {
      const BF16 value = out[r * args.ldo + i];
      expected[i] = std::isnan(ToFloat(value))  // becomes any byte
                        ? bytes[r * (width + kGap) + i]
                        : reference::QuantizeStatic(value, args.quantized.scale,
                                                    args.quantized.offset);
    }
    EXPECT_EQ(std::memcmp(&bytes[r * (width + kGap)], expected.data(), width + kGap), 0)
        << "row " << r;
  }
}

}  // namespace tiercel::kernels
