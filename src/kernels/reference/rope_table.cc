#include <cmath>

#include "kernels/reference/kernels.h"

namespace tiercel::kernels::reference {

void RopeTable(const RopeTableArgs& args, Share share) {
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t i = 0; i < args.half; ++i) {
      // The product is rounded to FP32, as in the reference model; its functions are exact.
      const float angle = static_cast<float>(args.positions[r]) * args.inv_freq[i];
      args.cos[r * args.half + i] =
          static_cast<float>(std::cos(static_cast<double>(angle))) * args.attention_factor;
      args.sin[r * args.half + i] =
          static_cast<float>(std::sin(static_cast<double>(angle))) * args.attention_factor;
    }
  }
}

}  // namespace tiercel::kernels::reference
