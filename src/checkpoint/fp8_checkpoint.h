// A checkpoint whose linears are stored in FP8 (E4M3): it shows each, with its scales, as one matrix.
#pragma once

#include <memory>

#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace tiercel::checkpoint {

// `stored` holds the files' tensors. Weights of the type "F8_E4M3" appear as [n, k] in the block format kF8, each with the
// scales of "…weight_scale_inv" or "…weight_scale" (W = scale · code): one number, one for each row, or one for each
// 128 × 128. Scales of inputs are not seen. A code or a scale that is no number is refused: scales here, codes as their
// row is read.
Expected<std::unique_ptr<Checkpoint>> OpenFp8(std::unique_ptr<Checkpoint> stored);

}  // namespace tiercel::checkpoint
