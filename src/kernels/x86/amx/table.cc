#include "kernels/x86/amx/table.h"

#include "kernels/reference/kernels.h"
#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/avx512/kernels.h"

namespace tiercel::kernels::amx {

const KernelTable& Table() {
  static constexpr KernelTable kTable = {
      .isa = "amx",
      .detail = "amx: bf16 by tdpbf16ps, int8 by tdpbusd",
      .embed = reference::Embed,
      .rms_norm = avx512::RmsNorm,
      .matmul = Matmul,
      .quantize = avx512::Quantize,
      .quant_matmul = QuantMatmul,
      .block_matmul = avx512::BlockMatmul,
      .fp8_matmul = Fp8Matmul,
      .swiglu = avx512::SwiGlu,
      .qk_norm_rope = avx512::QkNormRope,
      .attention = Attention,
      .attention_scratch_bytes = AttentionScratchBytes,
      .rope_table = reference::RopeTable,
      .add_parts = avx512::AddParts,
      .init_thread = InitThread,
      .rows = {.argmax = avx512::ArgMax,
               .sum_exp = avx512::SumExp,
               .collect_at_least = avx512::CollectAtLeast,
               .count_at_least = avx512::CountAtLeast,
               .keep_allowed = avx512::KeepAllowed,
               .scale = avx512::Scale},
      .peak_matmul = PeakMatmul,
      .peak_matmul_i8 = PeakMatmulI8,
      .read_stream = avx512::ReadStream,
  };
  return kTable;
}

}  // namespace tiercel::kernels::amx
