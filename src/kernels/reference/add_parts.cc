#include "kernels/reference/kernels.h"
#include "kernels/reference/sum_of_parts.h"

namespace tiercel::kernels::reference {

void AddParts(const AddPartsArgs& args, Share share) {
  constexpr int64_t kRun = 16;
  const int64_t runs = (args.n + kRun - 1) / kRun;  // of a row
  const Range mine = SplitRange(args.rows * runs, 1, share);
  for (int64_t i = mine.begin; i < mine.end; ++i) {
    const int64_t row = i / runs, begin = i % runs * kRun;
    for (int64_t c = begin; c < std::min(begin + kRun, args.n); ++c) {
      const float sum = SumOfParts(args.parts, row, c, 0);
      if (args.out_f32 != nullptr) {
        args.out_f32[row * args.ldo + c] = sum;
        continue;
      }
      args.out[row * args.ldo + c] = ToBF16(ToFloat(args.residual[row * args.ldr + c]) + sum);
    }
  }
}

}  // namespace tiercel::kernels::reference
