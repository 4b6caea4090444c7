// AMX BF16 kernels: those that differ from avx512's. Compiled with their own flags; call only where
// CpuFeatures::amx_bf16 and avx512 hold, on a thread that has called InitThread.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::amx {

// Loads the one tile configuration that all kernels here share: eight tiles of 16 rows × 64 bytes.
// It stays loaded for the thread's life; a kernel that loads another one restores this before it
// returns.
void InitThread();

void Matmul(const MatmulArgs& args, Share share);
void QuantMatmul(const QuantMatmulArgs& args, Share share);
void Fp8Matmul(const MatmulArgs& args, Share share);  // also needs AVX512-VBMI
void Attention(const AttentionArgs& args, Share share);
int64_t AttentionScratchBytes(const AttentionArgs& args, int workers);

int64_t PeakMatmul(int64_t iterations);
int64_t PeakMatmulI8(int64_t iterations);

}  // namespace tiercel::kernels::amx
