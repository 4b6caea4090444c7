// The keys and values of one sequence and KV head where they lie: in blocks of the paged cache (kernels/kv_layout.h).
#pragma once

#include <cstdint>

#include "kernels/attention_work.h"
#include "kernels/kv_layout.h"

namespace tiercel::kernels::simd {

// Isa: any type of an ISA's own, so that the linker cannot mix up the instantiations.
template <typename Isa, typename Element>
class KvHead {
 public:
  KvHead(const AttentionArgs& args, const AttentionTile& tile)
      : layout(args.layout),
        cache_(static_cast<const Element*>(args.kv)),
        blocks_(args.block_table + tile.seq * args.block_table_stride),
        head_(tile.kv_head) {}

  // The head's part of the block that has a key, and the key's slot there.
  const Element* BlockOf(int64_t key) const {
    return cache_ + layout.HeadOffset(blocks_[key / layout.block_size], head_);
  }
  int Slot(int64_t key) const { return static_cast<int>(key % layout.block_size); }

  const KvLayout layout;

 private:
  const Element* const cache_;
  const int32_t* const blocks_;
  const int head_;
};

}  // namespace tiercel::kernels::simd
