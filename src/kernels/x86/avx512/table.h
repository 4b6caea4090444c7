// The kernel tables of this ISA. Compiled without ISA flags: safe to call anywhere.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::avx512 {

// BF16 products by FP32 FMA on unpacked pairs, INT8 by avx2's kernels: runs on every AVX-512 CPU.
const KernelTable& Table();
// INT8 products by vpdpbusd (AVX512-VNNI).
const KernelTable& VnniTable();
// BF16 products by vdpbf16ps too (AVX512-BF16).
const KernelTable& Bf16DotTable();
// Those of an FP8 cache as well (AVX512-VBMI).
const KernelTable& Bf16DotVbmiTable();

}  // namespace tiercel::kernels::avx512
