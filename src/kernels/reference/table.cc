#include "kernels/reference/table.h"

#include "kernels/reference/kernels.h"

namespace tiercel::kernels::reference {

const KernelTable& Table() {
  static constexpr KernelTable kTable = {
      .isa = "scalar",
      .detail = "scalar reference",
      .embed = Embed,
      .rms_norm = RmsNorm,
      .matmul = Matmul,
      .quantize = Quantize,
      .quant_matmul = QuantMatmul,
      .block_matmul = BlockMatmul,
      .fp8_matmul = Fp8Matmul,
      .swiglu = SwiGlu,
      .qk_norm_rope = QkNormRope,
      .attention = Attention,
      .attention_scratch_bytes = AttentionScratchBytes,
      .rope_table = RopeTable,
      .add_parts = AddParts,
      .init_thread = [] {},
      .rows = {.argmax = ArgMax,
               .sum_exp = SumExp,
               .collect_at_least = CollectAtLeast,
               .count_at_least = CountAtLeast,
               .keep_allowed = KeepAllowed,
               .scale = Scale},
      .peak_matmul = PeakMatmul,
      .peak_matmul_i8 = PeakMatmulI8,
      .read_stream = ReadStream,
  };
  return kTable;
}

}  // namespace tiercel::kernels::reference
