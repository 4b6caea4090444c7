// GGUF's quantized types as block formats: their weights stay as they are.
#pragma once

#include "checkpoint/block_row.h"
#include "checkpoint/gguf_types.h"

namespace tiercel::checkpoint {

// kNone for types without one.
BlockFormat BlockFormatOf(GgufTensorType type);

// Takes `k` elements of a type with a block format apart, a multiple of its block's.
void ReadBlocks(GgufTensorType type, const uint8_t* source, int64_t k, BlockRow* out);

}  // namespace tiercel::checkpoint
