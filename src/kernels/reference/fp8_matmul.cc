#include <algorithm>
#include <cmath>

#include "base/e4m3.h"
#include "kernels/reference/block_weights.h"
#include "kernels/reference/kernels.h"
#include "kernels/reference/store_row.h"

namespace tiercel::kernels::reference {
namespace {

// t_b of ops.h: up to 128 inputs times one column, from input k on.
float BlockDot(const BF16* x, int64_t count, const StripReader& w, int64_t k, int64_t column) {
  float s[4] = {};
  for (int64_t i = 0; i < count; ++i) {
    s[i % 4] = std::fma(ToFloat(x[i]), E4M3ToFloat(static_cast<uint8_t>(w.Code(k + i, column))), s[i % 4]);
  }
  return (s[0] + s[1]) + (s[2] + s[3]);
}

}  // namespace

void Fp8Matmul(const MatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - column);
    for (int64_t row = 0; row < args.rows; ++row) {
      float y[kColumnBlock];
      for (int64_t c = 0; c < width; ++c) {
        const BlockStrip& strip = weight.strips[(column + c) / kStripColumns];
        y[c] = 0;
        if (strip.format != BlockFormat::kNone) {
          const StripReader reader(strip.format, static_cast<const uint8_t*>(weight.data) + strip.offset);
          for (int64_t k = 0; k < weight.k; k += kBlockInputs) {
            const float t = BlockDot(args.x + row * args.ldx + k, std::min(kBlockInputs, weight.k - k), reader, k,
                                     c % kStripColumns);
            y[c] = std::fma(t, reader.Scale(k / kBlockInputs, c % kStripColumns), y[c]);
          }
        }
        if (args.bias != nullptr) y[c] += args.bias[column + c];
      }
      StoreRow(args, row, column, width, y);
    }
  }
}

}  // namespace tiercel::kernels::reference
