// Where a key or a value lies in the paged KV cache.
//
// One layer's cache is an array of blocks, `block_stride` apart (the other layers' parts of a block
// may lie between); a block holds `block_size` tokens (a multiple of 32, 128 by default) of every KV
// head. Within (block, head) first the keys, then the values:
//   keys    [block_size / 16][head_dim / 2][16 tokens][2]   Kᵀ as the B operand of Q·Kᵀ
//   values  [block_size / 2][head_dim][2 tokens]            V as the B operand of P·V
// Both are what vdpbf16ps (16 columns × a pair) and an AMX B tile (16 pair-rows × 16 columns)
// load directly, so neither decode nor prefill transposes anything.
//
// An INT8 cache (dtype kI8) holds signed bytes in fours instead of pairs, as tdpbssd and vpdpbusd
// take them,
//   keys    [block_size / 16][head_dim / 4][16 tokens][4]
//   values  [block_size / 4][head_dim][4 tokens]
// and behind them two FP32 scales of every token: [block_size] of its key, [block_size] of its
// value. A key is its bytes times its scale (times the channel's, KvScales in ops.h). As for BF16,
// all of it must be finite.
//
// An FP8 cache (dtype kF8E4M3) holds E4M3 numbers in the same places and no scales. None is a NaN.
#pragma once

#include <cstdint>

#include "base/bf16.h"
#include "tensor/dtype.h"

namespace tiercel::kernels {

// The widest head that the kernels have room for; a model's configuration is checked against it.
inline constexpr int kMaxHeadDim = 512;

// Elements of a key, or tokens' values, that lie together: four bytes.
template <typename Element>
inline constexpr int kTogether = 4 / sizeof(Element);

struct KvLayout {
  int num_kv_heads = 0;
  int head_dim = 0;      // a multiple of 32
  int block_size = 128;  // tokens; a multiple of 32
  int64_t block_stride = 0;  // from one block to the next; 0: BlockSize(), they touch

  DType dtype = DType::kBF16;  // or kI8, kF8E4M3

  int Together() const { return dtype == DType::kBF16 ? kTogether<BF16> : kTogether<int8_t>; }

  // All offsets and sizes count elements of dtype.
  int64_t PartSize() const { return int64_t{block_size} * head_dim; }
  int64_t ScalesSize() const { return dtype == DType::kI8 ? 2 * int64_t{block_size} * 4 : 0; }
  int64_t HeadSize() const { return 2 * PartSize() + ScalesSize(); }
  int64_t BlockSize() const { return num_kv_heads * HeadSize(); }
  int64_t HeadOffset(int64_t block, int head) const {
    return block * (block_stride > 0 ? block_stride : BlockSize()) + head * HeadSize();
  }
  // Within (block, head): element d of the token at `slot` in the block.
  int64_t KeyOffset(int slot, int d) const {
    const int n = Together();
    return ((int64_t{slot / 16} * (head_dim / n) + d / n) * 16 + slot % 16) * n + d % n;
  }
  int64_t ValueOffset(int slot, int d) const {
    const int n = Together();
    return PartSize() + (int64_t{slot / n} * head_dim + d) * n + slot % n;
  }
  // The FP32 scale of the key (or value) at `slot`; kI8 only. Those of neighboring slots follow.
  int64_t KeyScaleOffset(int slot) const { return 2 * PartSize() + int64_t{slot} * 4; }
  int64_t ValueScaleOffset(int slot) const { return KeyScaleOffset(block_size + slot); }
};

}  // namespace tiercel::kernels
