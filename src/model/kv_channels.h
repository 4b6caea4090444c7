// Scales for the channels of keys in an INT8 cache whose tokens have scales of their own, from the weights alone.
//
// One scale for all of a token's channels leaves few digits for most of them where some are much larger, as with the biases of
// Qwen2's keys. A channel's scale is about its size, so that all of them fill the byte: the root of the mean square of W·x + b where
// x is normed, its elements as large as the norm's weights and independent. Scales are powers of two: dividing by them is exact.
// Values gain nothing by it (docs/accuracy.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/linear_tensors.h"
#include "tensor/packed_matrix.h"

namespace tiercel::model {

// The sizes of the outputs `rows` of linear `name` with k inputs that were normed with `norm` [k], see above.
Expected<std::vector<float>> OutputSizes(const checkpoint::Checkpoint& checkpoint, const std::string& name, const checkpoint::LinearTensors& tensors,
                                         std::span<const float> norm, Range rows);

// Each channel's scale relative to the largest of its head: powers of two down to 2⁻²⁰. Rotary embedding turns channel d and
// d + head_dim / 2 into each other: they have the same.
std::vector<float> KeyScales(std::span<const float> sizes, int64_t head_dim);

}  // namespace tiercel::model
