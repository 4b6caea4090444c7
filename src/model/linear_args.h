// LinearArgs: one linear as an operator of a Program, whatever its weights' format: what it multiplies, how it
// ends, and where the result goes.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "model/activations.h"
#include "model/weights.h"

namespace tiercel::model {

// What a linear multiplies: BF16 rows, or for weights of fewer bits rows that were quantized for it.
struct LinearInput {
  Rows rows;
  QuantRows quantized;
};

// Where a linear writes: BF16 rows, FP32 rows (logits), or rows quantized for the next linear.
struct LinearOutput {
  LinearOutput(const Rows& rows) : data(rows.data), stride(rows.stride) {}  // NOLINT: implicit by design
  LinearOutput(float* f32, int64_t stride) : f32(f32), stride(stride) {}
  explicit LinearOutput(const kernels::QuantizedRows& rows) : quantized(rows) {}

  BF16* data = nullptr;
  float* f32 = nullptr;
  int64_t stride = 0;
  kernels::QuantizedRows quantized = {};
  // With f32, where other ranks read it: the first rank's, which stands for the same rows of every rank's.
  const float* of_first_rank = nullptr;
  // With data: what the ranks have computed of the same rows, which are added in the pass.
  kernels::RankParts parts = {};
};

// out = x · Wᵀ of one matrix (linear.more are others'), or with kAdd out += x · Wᵀ, or with kSwiGlu the gated
// product of W's two halves, or with kAddParts out += the sum of the ranks' parts, of which x · Wᵀ is one.
struct LinearArgs {
  const LinearInput& x;
  const Linear& linear;
  kernels::Epilogue epilogue;
  const LinearOutput& out;
  int64_t rows = 0;
  int64_t prefetch = 0;  // bytes of W, over all workers, that those who wait before it ask for
  Range range = {0, rows};  // the rows that this rank computes, of those that `x` and `out` begin with

  int64_t OutputWidth() const;
  // Aborts if the operands do not fit each other.
  void Check() const;
  // As the kernels take them: where the weights are BF16 or FP8, INT8, or of another block format.
  kernels::MatmulArgs Matmul() const;
  kernels::QuantMatmulArgs QuantMatmul() const;
  kernels::BlockMatmulArgs BlockMatmul() const;
};

}  // namespace tiercel::model
