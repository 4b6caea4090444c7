// The kernel tables of AArch64. Compiled without ISA flags: safe to call anywhere.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::neon {

// FP32 FMA, INT8 products by widening multiplies: runs on every AArch64 CPU.
const KernelTable& Table();
// INT8 products by SDOT and UDOT.
const KernelTable& DotTable();
// And BF16 products by BFDOT.
const KernelTable& Bf16DotTable();
// And matmuls of several rows by BFMMLA, USMMLA and SMMLA.
const KernelTable& MmlaTable();

}  // namespace tiercel::kernels::neon
