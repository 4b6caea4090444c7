// Rows of weights as the blocks of GGUF's types (checkpoint/gguf_types.cc has their layouts).
//
// The scales are those of the least squared error among some that are tried, each after a fit by least squares to the
// codes that it gives. In blocks of 256 the groups' scales and minima are integers times one number: of each the
// neighbors are tried, then the numbers fitted to all codes of the block, twice. Sums go in lanes, so that the result
// is the same on every machine. Q8_0 has scales for its largest value: a search wins nothing there.
#pragma once

#include <cstdint>

#include "checkpoint/gguf_types.h"

namespace tiercel::quantize {

// k finite values of one row, k a multiple of the block's. The square of what a weight w loses counts
// 1 + |w| / the row's root mean square times: scales that lose least with all weights
// alike cut the large ones off, all to the same side, and cost a model more (docs/accuracy.md). Where a scale is beyond
// binary16 it becomes an infinity. Any type but F16 and Q4_1.
void QuantizeBlocks(checkpoint::GgufTensorType type, const float* w, int64_t k, uint8_t* out);

}  // namespace tiercel::quantize
