#include <algorithm>

#include "kernels/reference/kernels.h"
#include "kernels/reference/quantize.h"
#include "kernels/reference/store_row.h"

namespace tiercel::kernels::reference {
namespace {

// acc[c] = Σ_k x[k] · w[k, c] modulo 2³² for the `width` columns of one packed block.
void BlockDot(const uint8_t* x, const int8_t* w, int64_t k_padded, int64_t width, uint32_t* acc) {
  std::fill(acc, acc + width, 0u);
  for (int64_t k = 0; k < k_padded; k += kQuad, w += width * kQuad) {
    for (int64_t c = 0; c < width; ++c) {
      for (int64_t i = 0; i < kQuad; ++i) {
        acc[c] += static_cast<uint32_t>(x[k + i] * w[c * kQuad + i]);
      }
    }
  }
}

// Stores the BF16 output at column c of `row`.
void StoreOne(const QuantMatmulArgs& args, int64_t row, int64_t c, float y) {
  if (args.quantized.data == nullptr) {
    args.out[row * args.ldo + c] = ToBF16(y);
  } else {
    args.quantized.data[row * args.quantized.ld + c] =
        QuantizeStatic(ToBF16(y), args.quantized.scale, args.quantized.offset);
  }
}

}  // namespace

void QuantMatmul(const QuantMatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - column);
    const int8_t* w = static_cast<const int8_t*>(weight.data) + column * weight.k_padded;
    for (int64_t row = 0; row < args.rows; ++row) {
      uint32_t acc[kColumnBlock];
      float y[kColumnBlock];
      BlockDot(args.x + row * args.ldx, w, weight.k_padded, width, acc);
      for (int64_t c = 0; c < width; ++c) {
        const uint32_t sum = acc[c] + static_cast<uint32_t>(args.acc_bias[column + c]);
        y[c] = static_cast<float>(static_cast<int32_t>(sum));
        if (args.row_scale != nullptr) y[c] *= args.row_scale[row];
        y[c] *= args.scale[column + c];
        if (args.bias != nullptr) y[c] += args.bias[column + c];
      }
      StoreRow(args, row, column, width, y, [&](int64_t c, float v) { StoreOne(args, row, c, v); });
    }
  }
}

int64_t PeakMatmulI8(int64_t iterations) {
  int32_t acc[8] = {};
  int32_t a = 3, b = -5;
  for (int64_t i = 0; i < iterations; ++i) {
    for (int32_t& x : acc) x = static_cast<int32_t>(static_cast<uint32_t>(x) + a * b);
    asm volatile("" : "+m"(acc), "+r"(a), "+r"(b));  // keeps the loop as it is written
  }
  return iterations * 8 * 2;
}

}  // namespace tiercel::kernels::reference
