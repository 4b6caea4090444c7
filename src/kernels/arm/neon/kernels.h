// Kernels of ARMv8-A; those named …Dot need the dot products of bytes (CpuFeatures::neon_dotprod), those
// named …Bf16Dot those of BF16 (neon_bf16), those named …Mmla the matrix products of bytes too (neon_i8mm), and take
// one row by dot products. Compiled with their own flags.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::neon {

void RmsNorm(const RmsNormArgs& args, Share share);
void Matmul(const MatmulArgs& args, Share share);
void MatmulBf16Dot(const MatmulArgs& args, Share share);
void MatmulMmla(const MatmulArgs& args, Share share);
void Fp8MatmulBf16Dot(const MatmulArgs& args, Share share);
void Quantize(const QuantizeArgs& args, Share share);
void QuantMatmul(const QuantMatmulArgs& args, Share share);
void QuantMatmulDot(const QuantMatmulArgs& args, Share share);
void QuantMatmulMmla(const QuantMatmulArgs& args, Share share);
void BlockMatmul(const BlockMatmulArgs& args, Share share);
void BlockMatmulDot(const BlockMatmulArgs& args, Share share);
void BlockMatmulMmla(const BlockMatmulArgs& args, Share share);
void Fp8Matmul(const MatmulArgs& args, Share share);
void SwiGlu(const SwiGluArgs& args, Share share);
void AddParts(const AddPartsArgs& args, Share share);
void QkNormRope(const QkNormRopeArgs& args, Share share);
void Attention(const AttentionArgs& args, Share share);
void AttentionBf16Dot(const AttentionArgs& args, Share share);
int64_t AttentionScratchBytes(const AttentionArgs& args, int workers);

// RowOps
int64_t ArgMax(const float* x, int64_t n, float* max);
float SumExp(const float* x, int64_t n, float max, float scale);
int64_t CollectAtLeast(const float* x, int64_t n, float threshold, int32_t* indices, int64_t capacity);
int64_t CountAtLeast(const float* x, int64_t n, float threshold);
void KeepAllowed(float* x, int64_t n, const uint32_t* allowed);
void Scale(float* x, int64_t n, float factor);

// Yardsticks of machine_limits.h
int64_t PeakMatmul(int64_t iterations);
int64_t PeakMatmulBf16Dot(int64_t iterations);
int64_t PeakMatmulMmla(int64_t iterations);
int64_t PeakMatmulI8(int64_t iterations);
int64_t PeakMatmulI8Dot(int64_t iterations);
int64_t PeakMatmulI8Mmla(int64_t iterations);
uint64_t ReadStream(const void* data, int64_t bytes);

}  // namespace tiercel::kernels::neon
