#include <algorithm>
#include <cmath>

#include "base/e4m3.h"
#include "kernels/reference/kernels.h"
#include "kernels/reference/strip_matmul.h"

namespace tiercel::kernels::reference {
namespace {

// t_b of ops.h: up to 128 inputs times one column, from input k on.
float BlockDot(const BF16* x, int64_t count, const StripReader& w, int64_t k, int64_t column) {
  float t = 0;
  for (int64_t i = 0; i < count; ++i) {
    t = std::fma(ToFloat(x[i]), E4M3ToFloat(static_cast<uint8_t>(w.Code(k + i, column))), t);
  }
  return t;
}

}  // namespace

void Fp8Matmul(const MatmulArgs& args, Share share) {
  const int64_t k_end = args.weight->k;
  StripMatmul(args, share, [&](int64_t row, const StripReader& w, int64_t column) {
    float y = 0;
    for (int64_t k = 0; k < k_end; k += kBlockInputs) {
      const float t = BlockDot(args.x + row * args.ldx + k, std::min(kBlockInputs, k_end - k), w, k, column);
      y = std::fma(t, w.Scale(k / kBlockInputs, column), y);
    }
    return y;
  });
}

}  // namespace tiercel::kernels::reference
