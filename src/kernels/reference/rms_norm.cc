#include <cmath>

#include "kernels/reference/kernels.h"
#include "kernels/reference/quantize.h"

namespace tiercel::kernels::reference {

void RmsNorm(const RmsNormArgs& args, Share share) {
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const BF16* x = args.x + (args.row_index ? args.row_index[r] : r) * args.hidden;
    float sum = 0;
    for (int64_t i = 0; i < args.hidden; ++i) sum += ToFloat(x[i]) * ToFloat(x[i]);
    const float factor = 1 / std::sqrt(sum / static_cast<float>(args.hidden) + args.eps);
    const auto exact = [&](int64_t i) {
      const float bias = args.bias ? args.bias[i] : 0;
      return ToFloat(x[i]) * factor * args.weight[i] + bias;
    };
    const auto value = [&](int64_t i) { return ToBF16(exact(i)); };
    if (args.out_f32 != nullptr) {
      for (int64_t i = 0; i < args.hidden; ++i) args.out_f32[r * args.ldo + i] = exact(i);
    }
    if (args.out != nullptr) {
      for (int64_t i = 0; i < args.hidden; ++i) args.out[r * args.ldo + i] = value(i);
    }
    if (args.quantized.data != nullptr) QuantizeRow(value, args.hidden, r, args.quantized);
  }
}

}  // namespace tiercel::kernels::reference
