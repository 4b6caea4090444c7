#include "kernels/arm/neon/table.h"

#include "kernels/arm/neon/kernels.h"
#include "kernels/reference/kernels.h"

namespace tiercel::kernels::neon {

const KernelTable& Table() {
  static constexpr KernelTable kTable = {
      .isa = "neon",
      .detail = "neon: bf16 by fp32 fma, int8 by umull",
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
const KernelTable& DotTable() {
  static const KernelTable table = [] {
    KernelTable t = Table();
    t.isa = "neon_dot";
    t.detail = "neon_dot: bf16 by fp32 fma, int8 by udot and sdot";
    t.quant_matmul = QuantMatmulDot;
    t.block_matmul = BlockMatmulDot;
    t.peak_matmul_i8 = PeakMatmulI8Dot;
    return t;
  }();
  return table;
}

// The same but for what multiplies BF16.
const KernelTable& Bf16DotTable() {
  static const KernelTable table = [] {
    KernelTable t = DotTable();
    t.isa = "neon_bf16";
    t.detail = "neon_bf16: bf16 by bfdot, int8 by udot and sdot";
    t.matmul = MatmulBf16Dot;
    t.fp8_matmul = Fp8MatmulBf16Dot;
    t.attention = AttentionBf16Dot;
    t.peak_matmul = PeakMatmulBf16Dot;
    return t;
  }();
  return table;
}

// The same but for matmuls of two rows or more.
const KernelTable& MmlaTable() {
  static const KernelTable table = [] {
    KernelTable t = Bf16DotTable();
    t.isa = "neon_i8mm";
    t.detail = "neon_i8mm: bf16 by bfmmla, int8 by usmmla and smmla";
    t.matmul = MatmulMmla;
    t.quant_matmul = QuantMatmulMmla;
    t.block_matmul = BlockMatmulMmla;
    t.peak_matmul = PeakMatmulMmla;
    t.peak_matmul_i8 = PeakMatmulI8Mmla;
    return t;
  }();
  return table;
}

}  // namespace tiercel::kernels::neon
