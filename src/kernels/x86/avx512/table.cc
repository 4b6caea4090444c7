#include "kernels/x86/avx512/table.h"

#include "kernels/reference/kernels.h"
#include "kernels/x86/avx512/kernels.h"

namespace tiercel::kernels::avx512 {

const KernelTable& Table() {
  static constexpr KernelTable kTable = {
      .isa = "avx512",
      .detail = "avx512: bf16 by fp32 fma",
      .embed = reference::Embed,
      .rms_norm = reference::RmsNorm,
      .matmul = Matmul,
      .qk_norm_rope = reference::QkNormRope,
      .attention = reference::Attention,
      .attention_scratch_bytes = reference::AttentionScratchBytes,
      .rope_table = reference::RopeTable,
      .init_thread = [] {},
      .rows = {.argmax = reference::ArgMax,
               .sum_exp = reference::SumExp,
               .collect_at_least = reference::CollectAtLeast,
               .count_greater = reference::CountGreater,
               .scale = reference::Scale},
      .peak_matmul = PeakMatmul,
      .read_stream = ReadStream,
  };
  return kTable;
}

const KernelTable& Bf16DotTable() {
  static constexpr KernelTable kTable = {
      .isa = "avx512",
      .detail = "avx512: bf16 by vdpbf16ps",
      .embed = reference::Embed,
      .rms_norm = reference::RmsNorm,
      .matmul = MatmulBf16Dot,
      .qk_norm_rope = reference::QkNormRope,
      .attention = reference::Attention,
      .attention_scratch_bytes = reference::AttentionScratchBytes,
      .rope_table = reference::RopeTable,
      .init_thread = [] {},
      .rows = {.argmax = reference::ArgMax,
               .sum_exp = reference::SumExp,
               .collect_at_least = reference::CollectAtLeast,
               .count_greater = reference::CountGreater,
               .scale = reference::Scale},
      .peak_matmul = PeakMatmulBf16Dot,
      .read_stream = ReadStream,
  };
  return kTable;
}

}  // namespace tiercel::kernels::avx512
