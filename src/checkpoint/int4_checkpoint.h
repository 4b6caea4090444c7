// A checkpoint whose linears are stored in four bits (GPTQ, AWQ, compressed-tensors): it shows each as one matrix.
#pragma once

#include <memory>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/int4_config.h"

namespace tiercel::checkpoint {

// `stored` holds the files' tensors. The linears' weights appear under their float names as [n, k] of the type "I4",
// in the block format kI4 or kU4 or those of smaller groups; the tensors that they are made of are not seen. Reordered
// inputs (act-order) are sorted by group: Checkpoint::BlockOrderOf. Where groups are not of one size, and in embeddings, such
// a linear can be read as floats alone. Checks the shapes and types of these.
// Scales become binary16: what is smaller than 6e-5 loses bits, what does not fit is refused as its row is read.
Expected<std::unique_ptr<Checkpoint>> OpenInt4(std::unique_ptr<Checkpoint> stored, const Int4Config& config);

}  // namespace tiercel::checkpoint
