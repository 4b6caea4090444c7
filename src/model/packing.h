// Packing: checkpoint rows into tensor/packed_matrix.h's layout.
#pragma once

#include <cstdint>

#include "base/function_ref.h"
#include "base/status.h"
#include "tensor/packed_matrix.h"

namespace tiercel::model {

// k as the packed form of `dtype` holds it: BF16, INT8, or of block formats U8.
int64_t PaddedK(int64_t k, DType dtype);

// Bytes of the packed form of n columns (already padded to the granule) and k inputs.
int64_t PackedBytes(int64_t n, int64_t k, DType dtype);

// Packs worker `worker`'s column range of `matrix` into `data` (the matrix's whole buffer):
// called by each worker for its own range, so that it touches first what it will read.
// `read_row(column, row)` fills row[0, k) with the weights of packed column `column` in the matrix's
// element type; it decides the column order (fused qkv groups, gate/up in turns of 16) and gives
// zeros for padding.
Status PackColumns(const PackedMatrix& matrix, void* data, int worker,
                   FunctionRef<Status(int64_t column, void* row)> read_row);

}  // namespace tiercel::model
