#include "kernels/reference/quantize.h"

#include "kernels/reference/kernels.h"

namespace tiercel::kernels::reference {

void Quantize(const QuantizeArgs& args, Share share) {
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const BF16* x = args.x + r * args.ldx;
    QuantizeRow([&](int64_t i) { return x[args.order == nullptr ? i : args.order[i]]; }, args.n, r, args.out);
  }
}

void SwiGlu(const SwiGluArgs& args, Share share) {
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = 0; c < args.n; ++c) {
      const BF16* x = args.x + r * args.ldx + c / kColumnGroup * 2 * kColumnGroup;
      const float gate = ToFloat(x[c % kColumnGroup]);
      const float up = ToFloat(x[kColumnGroup + c % kColumnGroup]);
      args.out[r * args.ldo + c] = ToBF16(gate / (1.0f + std::exp(-gate)) * up);
    }
  }
}

}  // namespace tiercel::kernels::reference
