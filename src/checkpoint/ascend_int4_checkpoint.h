// A checkpoint of the Ascend quantizer of which linears have four bits: it shows each, with its scales, as one matrix.
//
// n outputs, k inputs, G groups of inputs. Codes c from −8 to 7:
//   weight               INT8 [n, k], or [n / 2, k]: rows 2·i and 2·i + 1 in the low and the high nibbles of row i; of
//                        W4A16 also [n, k / 2]: inputs 2·i and 2·i + 1 so
//   weight_scale         [n, 1], [n, G] or [n · G, 1]
//   weight_offset        the same, or none: 0
//   weight_scale_second  [n, G], or none: 1
//   scale_bias           of no use here: what an NPU's unsigned codes take
// With a second scale W = weight_scale · weight_scale_second · c, and offsets must be 0; without it
// W = weight_scale · (c − weight_offset).
#pragma once

#include <memory>

#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace tiercel::checkpoint {

// `stored` holds the files' tensors, and comes back as it is if its description names no linear of four bits. Their
// weights appear as [n, k] of the type "I4" in the block format kI4 or one of its kind; the tensors that they are made
// of are not seen. Checks shapes and types; codes and scales as their row is read.
// Scales become binary16, as in int4_checkpoint.h.
Expected<std::unique_ptr<Checkpoint>> OpenAscendInt4(std::unique_ptr<Checkpoint> stored);

}  // namespace tiercel::checkpoint
