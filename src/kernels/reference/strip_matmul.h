// The matmul of weights in strips, whatever their format and their inputs: a column's sum by the format's own formula, then
// bias and epilogue.
#pragma once

#include <algorithm>

#include "kernels/ops.h"
#include "kernels/reference/block_weights.h"
#include "kernels/reference/store_row.h"

namespace tiercel::kernels::reference {

// y = dot(row, the column's strip, its number in the strip); 0 for strips without a format.
template <typename Args, typename Dot>
void StripMatmul(const Args& args, Share share, Dot dot) {
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
          y[c] = dot(row, reader, c % kStripColumns);
        }
        if (args.bias != nullptr) y[c] += args.bias[column + c];
      }
      StoreRow(args, row, column, width, y);
    }
  }
}

}  // namespace tiercel::kernels::reference
