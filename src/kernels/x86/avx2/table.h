// The kernel tables of this ISA. Compiled without ISA flags: safe to call anywhere.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::avx2 {

// INT8 products by vpmaddwd on widened bytes: runs on every AVX2 CPU.
const KernelTable& Table();
// INT8 products by vpdpbusd (AVX-VNNI).
const KernelTable& VnniTable();

}  // namespace tiercel::kernels::avx2
