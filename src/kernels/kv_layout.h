// Where a key or a value lies in the paged KV cache.
//
// One layer's cache is an array of blocks, `block_stride` apart (the other layers' parts of a block
// may lie between); a block holds `block_size` tokens (a multiple of 32, 128 by default) of every KV
// head. Within (block, head) first the keys, then the values:
//   keys    [block_size / 16][head_dim / 2][16 tokens][2]   Kᵀ as the B operand of Q·Kᵀ
//   values  [block_size / 2][head_dim][2 tokens]            V as the B operand of P·V
// Both are what vdpbf16ps (16 columns × a pair) and an AMX B tile (16 pair-rows × 16 columns)
// load directly, so neither decode nor prefill transposes anything.
#pragma once

#include <cstdint>

namespace tiercel::kernels {

// The widest head that the kernels have room for; a model's configuration is checked against it.
inline constexpr int kMaxHeadDim = 512;

struct KvLayout {
  int num_kv_heads = 0;
  int head_dim = 0;      // a multiple of 32
  int block_size = 128;  // tokens; a multiple of 32
  int64_t block_stride = 0;  // from one block to the next; 0: BlockSize(), they touch

  // All offsets and sizes count BF16 elements.
  int64_t PartSize() const { return int64_t{block_size} * head_dim; }
  int64_t HeadSize() const { return 2 * PartSize(); }
  int64_t BlockSize() const { return num_kv_heads * HeadSize(); }
  int64_t HeadOffset(int64_t block, int head) const {
    return block * (block_stride > 0 ? block_stride : BlockSize()) + head * HeadSize();
  }
  // Within (block, head): element d of the token at `slot` in the block.
  int64_t KeyOffset(int slot, int d) const {
    return ((int64_t{slot / 16} * (head_dim / 2) + d / 2) * 16 + slot % 16) * 2 + d % 2;
  }
  int64_t ValueOffset(int slot, int d) const {
    return PartSize() + (int64_t{slot / 2} * head_dim + d) * 2 + slot % 2;
  }
};

}  // namespace tiercel::kernels
