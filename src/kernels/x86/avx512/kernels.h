// AVX-512 (F, BW, DQ, VL, CD) kernels; those named …Bf16Dot also need AVX512-BF16, …Vbmi AVX512-VBMI,
// QuantMatmul and PeakMatmulI8 AVX512-VNNI. Compiled with their own flags; call only where
// CpuFeatures::avx512 (avx512_bf16, avx512_vbmi, avx512_vnni) holds.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::avx512 {

void RmsNorm(const RmsNormArgs& args, Share share);
void Matmul(const MatmulArgs& args, Share share);
void Quantize(const QuantizeArgs& args, Share share);
void QuantMatmul(const QuantMatmulArgs& args, Share share);  // by vpdpbusd
void Fp8Matmul(const MatmulArgs& args, Share share);
void BlockMatmul(const BlockMatmulArgs& args, Share share);  // by vpdpbusd
void SwiGlu(const SwiGluArgs& args, Share share);
void AddParts(const AddPartsArgs& args, Share share);
void MatmulBf16Dot(const MatmulArgs& args, Share share);  // by vdpbf16ps
void Fp8MatmulBf16DotVbmi(const MatmulArgs& args, Share share);
void QkNormRope(const QkNormRopeArgs& args, Share share);
void Attention(const AttentionArgs& args, Share share);
void AttentionBf16Dot(const AttentionArgs& args, Share share);  // by vdpbf16ps, same scratch
void AttentionBf16DotVbmi(const AttentionArgs& args, Share share);  // so over caches of bytes, too
int64_t AttentionScratchBytes(const AttentionArgs& args, int workers);

// RowOps
int64_t ArgMax(const float* x, int64_t n, float* max);
float SumExp(const float* x, int64_t n, float max, float scale);
int64_t CollectAtLeast(const float* x, int64_t n, float threshold, int32_t* indices,
                       int64_t capacity);
int64_t CountAtLeast(const float* x, int64_t n, float threshold);
void KeepAllowed(float* x, int64_t n, const uint32_t* allowed);
void Scale(float* x, int64_t n, float factor);

// Yardsticks of machine_limits.h
int64_t PeakMatmul(int64_t iterations);
uint64_t ReadStream(const void* data, int64_t bytes);
int64_t PeakMatmulI8(int64_t iterations);
int64_t PeakMatmulBf16Dot(int64_t iterations);

}  // namespace tiercel::kernels::avx512
