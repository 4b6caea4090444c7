// Packing rows of block formats into strips (tensor/block_format.h).
#pragma once

#include <array>
#include <cstdint>

#include "base/status.h"
#include "checkpoint/block_row.h"
#include "tensor/packed_matrix.h"

namespace tiercel::model {

// Sixteen columns; null: one of zeros.
using StripRows = std::array<const checkpoint::BlockRow*, kStripColumns>;

// Ok if the inputs `slice` of k can be cut out of a row of the format: at whole groups, or whole units where the
// scales' scales belong to these. `name` is for the message.
Status CheckSlice(const std::string& name, BlockFormat format, int64_t k, Range slice);

// Writes the strip of `rows`' inputs `slice` (see CheckSlice): StripBytes(format, slice.size()) bytes.
void PackStrip(BlockFormat format, const StripRows& rows, Range slice, uint8_t* out);

}  // namespace tiercel::model
