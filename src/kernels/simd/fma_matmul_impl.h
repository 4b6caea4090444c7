// Matmul by FP32 FMA, once for all vector widths: few rows by StreamRows, many by PanelMatmul.
#pragma once

#include <algorithm>

#include "kernels/ops.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/panel_matmul_impl.h"
#include "kernels/simd/stream_rows_impl.h"

namespace tiercel::kernels::simd {

// In tiles of kTileRows rows × kTileVectors vectors of the ISA's registers (S). kStreamRows: up to so
// many rows memory is the nearer limit, or not far.
template <typename S, int kTileRows, int kTileVectors, int kStreamRows>
void FmaMatmul(const MatmulArgs& args, Share share) {
  const PackedMatrix& weight = *args.weight;
  const Range range = weight.ColumnRange(share.index);
  if (args.rows == 0) return;
  if (args.rows <= kStreamRows) {
    StreamRows<S, kTileRows, kStreamRows> stream(args);  // 262 KiB of stack
    for (int64_t column = range.begin; column < range.end; column += kColumnBlock) {
      const int64_t width = std::min(kColumnBlock, range.end - column);
      const float* sums = stream.Block(
          static_cast<const BF16*>(weight.data) + column * weight.k_padded, width);
      for (int64_t row = 0; row < args.rows; ++row) {
        FinishRow<S>(args, row, column, width, sums + row * kColumnBlock);
      }
    }
    return;
  }
  PanelMatmul<S, kTileRows, kTileVectors, kStreamRows + 1> panels(args);  // 420 KiB of stack
  panels.Run(range, [&](int64_t row, int64_t column, int64_t width, const float* sums,
                        int64_t stride) { FinishRow<S>(args, row, column, width, sums, stride); });
}

}  // namespace tiercel::kernels::simd
