#include <cmath>

#include "kernels/reference/kernels.h"

namespace tiercel::kernels::reference {

void RmsNorm(const RmsNormArgs& args, Share share) {
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const BF16* x = args.x + (args.row_index ? args.row_index[r] : r) * args.hidden;
    BF16* out = args.out + r * args.hidden;
    float sum = 0;
    for (int64_t i = 0; i < args.hidden; ++i) sum += ToFloat(x[i]) * ToFloat(x[i]);
    const float factor = 1 / std::sqrt(sum / static_cast<float>(args.hidden) + args.eps);
    for (int64_t i = 0; i < args.hidden; ++i) {
      const float bias = args.bias ? args.bias[i] : 0;
      out[i] = ToBF16(ToFloat(x[i]) * factor * args.weight[i] + bias);
    }
  }
}

}  // namespace tiercel::kernels::reference
