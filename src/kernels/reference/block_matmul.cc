#include <algorithm>
#include <cmath>

#include "kernels/reference/kernels.h"
#include "kernels/reference/strip_matmul.h"

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
  StripMatmul(args, share, [&](int64_t row, const StripReader& w, int64_t column) {
    float y = 0;
    for (int64_t k = 0; k < args.weight->k_padded; k += kBlockInputs) {
      const QuantizedBlock& x = args.x[row * args.ldx + k / kBlockInputs];
      y = std::fma(BlockDot(x, w, k, column), x.scale, y);
    }
    return y;
  });
}

}  // namespace tiercel::kernels::reference
