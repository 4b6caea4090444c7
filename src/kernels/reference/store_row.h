// The epilogues of the matmuls (ops.h).
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/ops.h"
#include "kernels/reference/sum_of_parts.h"

namespace tiercel::kernels::reference {

// Writes the columns [column, column + width) of output row `row`, whose sums with the bias are y. store(c, v): what
// kStore and kSwiGlu give for the row's column c.
template <typename Args, typename Store>
void StoreRow(const Args& args, int64_t row, int64_t column, int64_t width, const float* y, Store&& store) {
  switch (args.epilogue) {
    case Epilogue::kStore:
      for (int64_t c = 0; c < width; ++c) store(column + c, y[c]);
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
        for (int64_t i = 0; i < kColumnGroup; ++i) {
          const float gate = y[c + i];
          store((column + c) / 2 + i, gate / (1.0f + std::exp(-gate)) * y[c + kColumnGroup + i]);
        }
      }
      return;
    case Epilogue::kStoreF32:
      std::copy(y, y + width, args.out_f32 + row * args.ldo + column);
      return;
  }
}

// The same in BF16.
template <typename Args>
void StoreRow(const Args& args, int64_t row, int64_t column, int64_t width, const float* y) {
  StoreRow(args, row, column, width, y, [&](int64_t c, float v) { args.out[row * args.ldo + c] = ToBF16(v); });
}

}  // namespace tiercel::kernels::reference
