#include "kernels/x86/avx2/table.h"

#include "kernels/reference/kernels.h"
#include "kernels/x86/avx2/kernels.h"

namespace tiercel::kernels::avx2 {

const KernelTable& Table() {
  static constexpr KernelTable kTable = {
      .isa = "avx2",
      .detail = "avx2: bf16 by fp32 fma",
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

}  // namespace tiercel::kernels::avx2
