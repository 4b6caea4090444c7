#include <algorithm>

#include "kernels/reference/kernels.h"
#include "kernels/reference/store_row.h"

namespace tiercel::kernels::reference {
namespace {

// acc[c] = Σ_k x[k] · w[k, c], k ascending, for the `width` columns of one packed block.
void BlockDot(const BF16* x, const BF16* w, int64_t k_padded, int64_t width, float* acc) {
  std::fill(acc, acc + width, 0.0f);
  for (int64_t k = 0; k < k_padded; k += kPair, w += width * kPair) {
    const float x0 = ToFloat(x[k]);
    const float x1 = ToFloat(x[k + 1]);
    for (int64_t c = 0; c < width; ++c) {
      acc[c] += x0 * ToFloat(w[c * kPair]);
      acc[c] += x1 * ToFloat(w[c * kPair + 1]);
    }
  }
}

}  // namespace

void Matmul(const MatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - column);
    const BF16* w = static_cast<const BF16*>(weight.data) + column * weight.k_padded;
    for (int64_t row = 0; row < args.rows; ++row) {
      float acc[kColumnBlock];
      BlockDot(args.x + row * args.ldx, w, weight.k_padded, width, acc);
      if (args.bias != nullptr) {
        for (int64_t c = 0; c < width; ++c) acc[c] += args.bias[column + c];
      }
      StoreRow(args, row, column, width, acc);
    }
  }
}

}  // namespace tiercel::kernels::reference
