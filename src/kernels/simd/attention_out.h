// Where an attention's outputs go: BF16 rows, or bytes of one static scale, quantized from the same
// BF16 values (AttentionArgs::quantized). Once for all vector widths; `S` is an ISA's Simd.
#pragma once

#include "kernels/ops.h"
#include "kernels/simd/quantize_impl.h"

namespace tiercel::kernels::simd {

template <typename S>
class AttentionOut {
 public:
  explicit AttentionOut(const AttentionArgs& args)
      : args_(args), quantize_(args.quantized.scale, args.quantized.offset) {}

  // S::kLanes values of `row` from `column` (head · head_dim + i) on.
  [[gnu::always_inline]] void Store(int64_t row, int64_t column, typename S::V v) const {
    const QuantizedRows& bytes = args_.quantized;
    if (bytes.data == nullptr) {
      S::Narrow(args_.out + row * args_.ldo + column, v);
    } else {
      S::StoreBytes(bytes.data + row * bytes.ld + column, quantize_(S::Round(v)));
    }
  }

 private:
  const AttentionArgs& args_;
  const Quantizer<S> quantize_;
};

}  // namespace tiercel::kernels::simd
