#include <algorithm>
#include <cmath>

#include "kernels/reference/block_weights.h"
#include "kernels/reference/kernels.h"
#include "kernels/reference/store_row.h"

namespace tiercel::kernels::reference {
namespace {

// t of ops.h: one block of x times one column, from input k on.
float BlockDot(const QuantizedBlock& x, const StripReader& w, int64_t k, int64_t column) {
  const int64_t group = w.info().group;
  float t = 0;
  for (int64_t begin = 0; begin < kBlockInputs; begin += group) {
    int32_t product = 0, sum = 0;
    for (int64_t i = begin; i < begin + group; ++i) {
      product += (w.Code(k + i, column) - w.info().zero) * x.q[i];
      sum += x.q[i];
    }
    const int64_t g = (k + begin) / group;
    t = std::fma(static_cast<float>(product), w.Scale(g, column), t);
    if (w.has_min()) t = std::fma(static_cast<float>(-sum), w.Min(g, column), t);
  }
  return t;
}

}  // namespace

void BlockMatmul(const BlockMatmulArgs& args, Share share) {
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
          for (int64_t k = 0; k < weight.k_padded; k += kBlockInputs) {
            const QuantizedBlock& x = args.x[row * args.ldx + k / kBlockInputs];
            y[c] = std::fma(BlockDot(x, reader, k, c % kStripColumns), x.scale, y[c]);
          }
        }
        if (args.bias != nullptr) y[c] += args.bias[column + c];
      }
      StoreRow(args, row, column, width, y);
    }
  }
}

}  // namespace tiercel::kernels::reference
