// The epilogues of a float matmul (ops.h).
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/ops.h"
#include "kernels/reference/sum_of_parts.h"

namespace tiercel::kernels::reference {

// Writes the columns [column, column + width) of output row `row`, whose sums with the bias are y.
template <typename Args>
void StoreRow(const Args& args, int64_t row, int64_t column, int64_t width, const float* y) {
  switch (args.epilogue) {
    case Epilogue::kStore:
      for (int64_t c = 0; c < width; ++c) args.out[row * args.ldo + column + c] = ToBF16(y[c]);
      return;
    case Epilogue::kAdd:
      for (int64_t c = 0; c < width; ++c) {
        const int64_t at = row * args.ldo + column + c;
        args.out[at] = ToBF16(y[c] + ToFloat(args.residual[at]));
      }
      return;
    case Epilogue::kAddParts: return StoreSumOfParts(args, row, column, width, y);
    case Epilogue::kSwiGlu:
      for (int64_t c = 0; c < width; c += 2 * kColumnGroup) {
        BF16* out = args.out + row * args.ldo + (column + c) / 2;
        for (int64_t i = 0; i < kColumnGroup; ++i) {
          const float gate = y[c + i];
          out[i] = ToBF16(gate / (1.0f + std::exp(-gate)) * y[c + kColumnGroup + i]);
        }
      }
      return;
    case Epilogue::kStoreF32:
      std::copy(y, y + width, args.out_f32 + row * args.ldo + column);
      return;
  }
}

}  // namespace tiercel::kernels::reference
