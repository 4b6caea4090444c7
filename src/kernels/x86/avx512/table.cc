#include "kernels/x86/avx512/table.h"

#include "kernels/reference/kernels.h"
#include "kernels/x86/avx2/kernels.h"
#include "kernels/x86/avx512/kernels.h"

namespace tiercel::kernels::avx512 {

const KernelTable& Table() {
  static constexpr KernelTable kTable = {
      .isa = "avx512",
      .detail = "avx512: bf16 by fp32 fma, int8 by vpmaddwd",
      .embed = reference::Embed,
      .rms_norm = RmsNorm,
      .matmul = Matmul,
      .quantize = Quantize,
      .quant_matmul = avx2::QuantMatmul,
      .block_matmul = avx2::BlockMatmul,
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
      .peak_matmul_i8 = avx2::PeakMatmulI8,
      .read_stream = ReadStream,
  };
  return kTable;
}

// The same but for the quantized matmuls.
const KernelTable& VnniTable() {
  static const KernelTable table = [] {
    KernelTable t = Table();
    t.detail = "avx512: bf16 by fp32 fma, int8 by vpdpbusd";
    t.quant_matmul = QuantMatmul;
    t.block_matmul = BlockMatmul;
    t.peak_matmul_i8 = PeakMatmulI8;
    return t;
  }();
  return table;
}

// The same but for what multiplies BF16.
const KernelTable& Bf16DotTable() {
  static const KernelTable table = [] {
    KernelTable t = VnniTable();
    t.isa = "avx512_bf16";
    t.detail = "avx512_bf16: bf16 by vdpbf16ps, int8 by vpdpbusd";
    t.matmul = MatmulBf16Dot;
    t.attention = AttentionBf16Dot;
    t.peak_matmul = PeakMatmulBf16Dot;
    return t;
  }();
  return table;
}

// The same but for what reads FP8.
const KernelTable& Bf16DotVbmiTable() {
  static const KernelTable table = [] {
    KernelTable t = Bf16DotTable();
    t.attention = AttentionBf16DotVbmi;
    t.fp8_matmul = Fp8MatmulBf16DotVbmi;
    return t;
  }();
  return table;
}

}  // namespace tiercel::kernels::avx512
