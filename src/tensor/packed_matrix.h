// PackedMatrix: the one layout of a linear's weight that every matmul kernel streams.
//
// y[rows, n] = x[rows, k] · Wᵀ, with W [n, k] row-major in the checkpoint.
//
// The n columns (output features) are divided among the workers in contiguous ranges of whole
// granules (ColumnRange). A worker's range is cut into blocks of kColumnBlock columns, the last
// one narrower (a multiple of kColumnGroup). A block of width w is stored as
//     [k_padded / kPair][w][kPair]
// so that a worker reads its range as one linear stream (several streams halve the bandwidth),
// a zmm register holds 16 columns × 2 consecutive k (vdpbf16ps), and 16 rows of the k-pair
// dimension are an AMX B tile. k is padded with zeros to a multiple of kKBlock = 32 (one AMX tile).
// n must be a multiple of kColumnGroup: the packer pads with zero columns where a model's is not.
//
// The element (column c, k) of a range [begin, end) lies at
//     begin·k_padded + block·kColumnBlock·k_padded + ((k / 2)·w + c_in_block)·2 + k % 2.
//
// INT8 weights (dtype kI8) lie in the same blocks with k in quads, [k_padded / kQuad][w][kQuad], and
// k_padded a multiple of kKBlockI8 = 64: four bytes a lane and 64 bytes a tile row as for BF16. The
// element (c, k) lies at the byte
//     begin·k_padded + block·kColumnBlock·k_padded + ((k / 4)·w + c_in_block)·4 + k % 4.
//
// Weights of a block format (tensor/block_format.h, `strips` not null) lie in strips of kColumnGroup columns one
// after the other, each with a format of its own; k_padded is a multiple of kBlockInputs = 128.
#pragma once

#include <cstdint>

#include "tensor/block_format.h"
#include "tensor/dtype.h"
#include "tensor/share.h"

namespace tiercel {

inline constexpr int64_t kColumnGroup = 16;  // FP32 lanes of a zmm; columns of an AMX tile
inline constexpr int64_t kColumnBlock = 64;  // 4 groups: the widest register tile
inline constexpr int64_t kPair = 2;          // BF16 values that one dot-product lane takes
inline constexpr int64_t kKBlock = 32;       // k of one AMX tile
inline constexpr int64_t kQuad = 4;          // INT8 values that one dot-product lane takes
inline constexpr int64_t kKBlockI8 = 64;     // k of one AMX tile of INT8

static_assert(kStripColumns == kColumnGroup);

// Non-owning; the packer (model/) owns the buffer, whose size is n · k_padded elements of `dtype`, or what the
// strips take.
struct PackedMatrix {
  const void* data = nullptr;  // 64-byte aligned
  DType dtype = DType::kBF16;
  int64_t n = 0;         // columns, a multiple of granule and so of kColumnGroup
  int64_t k = 0;         // the input features that count
  int64_t k_padded = 0;  // a multiple of kKBlock, of kKBlockI8 for kI8, of kBlockInputs for block formats
  int64_t granule = kColumnGroup;  // columns that stay together on one worker
  int workers = 1;       // the team size that it was packed for; kernels get Shares of this count
  const BlockStrip* strips = nullptr;  // [n / kColumnGroup], or null: then `dtype` says what lies in `data`
  const int32_t* bounds = nullptr;  // of the Shares that it was packed for

  // Bytes of the columns before `column`, which begins a granule or is n.
  int64_t Offset(int64_t column) const {
    if (strips == nullptr) return column * k_padded * static_cast<int64_t>(SizeOf(dtype));
    if (column > 0 && column == n) {
      const BlockStrip& last = strips[n / kColumnGroup - 1];
      return last.offset + StripBytes(last.format, k);
    }
    return strips[column / kColumnGroup].offset;
  }
  Share ShareOf(int worker) const { return {worker, workers, bounds}; }
  Range ColumnRange(int worker) const { return SplitRange(n, granule, ShareOf(worker)); }
};

}  // namespace tiercel
