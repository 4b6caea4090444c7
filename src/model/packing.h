// Packing: checkpoint rows into tensor/packed_matrix.h's layout.
#pragma once

#include <cstdint>

#include "base/bf16.h"
#include "base/function_ref.h"
#include "base/status.h"
#include "tensor/packed_matrix.h"

namespace tiercel::model {

// Bytes of the packed form of n columns (already padded to the granule) and k inputs.
int64_t PackedBytes(int64_t n, int64_t k);

// Packs worker `worker`'s column range of `matrix` into `data` (the matrix's whole buffer):
// called by each worker for its own range, so that it touches first what it will read.
// `read_row(column, row)` fills row[0, k) with the weights of packed column `column`; it decides
// the column order (fused qkv groups, gate/up in turns of 16) and gives zeros for padding.
Status PackColumns(const PackedMatrix& matrix, BF16* data, int worker,
                   FunctionRef<Status(int64_t column, BF16* row)> read_row);

}  // namespace tiercel::model
