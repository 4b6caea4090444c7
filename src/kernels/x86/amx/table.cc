#include "kernels/x86/amx/table.h"

#include "kernels/reference/kernels.h"
#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/avx512/kernels.h"

namespace tiercel::kernels::amx {

const KernelTable& Table() {
  static constexpr KernelTable kTable = {
      .isa = "amx",
      .detail = "amx: bf16 by tdpbf16ps",
      .embed = reference::Embed,
      .rms_norm = reference::RmsNorm,
      .matmul = Matmul,
      .qk_norm_rope = reference::QkNormRope,
      .attention = reference::Attention,
      .attention_scratch_bytes = reference::AttentionScratchBytes,
      .rope_table = reference::RopeTable,
      .init_thread = InitThread,
      .rows = {.argmax = reference::ArgMax,
               .sum_exp = reference::SumExp,
               .collect_at_least = reference::CollectAtLeast,
               .count_greater = reference::CountGreater,
               .scale = reference::Scale},
      .peak_matmul = PeakMatmul,
      .read_stream = avx512::ReadStream,
  };
  return kTable;
}

}  // namespace tiercel::kernels::amx
