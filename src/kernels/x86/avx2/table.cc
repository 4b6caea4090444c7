#include "kernels/x86/avx2/table.h"

#include "kernels/reference/kernels.h"
#include "kernels/x86/avx2/kernels.h"

namespace tiercel::kernels::avx2 {

const KernelTable& Table() {
  static constexpr KernelTable kTable = {
      .isa = "avx2",
      .detail = "avx2: bf16 by fp32 fma, int8 by vpmaddwd",
      .embed = reference::Embed,
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
      .rope_table = reference::RopeTable,
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

// The same but for the quantized matmuls.
const KernelTable& VnniTable() {
  static const KernelTable table = [] {
    KernelTable t = Table();
    t.detail = "avx2: bf16 by fp32 fma, int8 by vpdpbusd";
    t.quant_matmul = QuantMatmulVnni;
    t.block_matmul = BlockMatmulVnni;
    t.peak_matmul_i8 = PeakMatmulI8Vnni;
    return t;
  }();
  return table;
}

}  // namespace tiercel::kernels::avx2
