// BlockPool: which KV blocks are in use, by how many sequences, and what the free ones still hold.
//
// Blocks are numbered 1 … num_blocks − 1; block 0 is never handed out. A block whose content has
// a name (engine/prefix_hash.h) keeps it while it is free, until it is handed out again: free
// blocks are reused nameless ones first, then the least recently freed. Not thread-safe: the
// scheduler's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/prefix_hash.h"

namespace tiercel::engine {

class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);  // ≥ 2

  int64_t num_usable() const { return static_cast<int64_t>(blocks_.size()) - 1; }
  int64_t num_free() const { return num_free_; }
  bool in_use(int32_t block) const { return blocks_[block].references > 0; }

  // Hands out a free block with one reference; its former content is forgotten. num_free() > 0.
  int32_t Allocate();
  // One more user of a block, which may be free (its content is then kept).
  void AddReference(int32_t block);
  // One user fewer. Release a sequence's blocks last to first: then the end of a prefix is
  // forgotten before its beginning.
  void Release(int32_t block);

  // The block that holds the content of this name.
  std::optional<int32_t> Find(const BlockHash& hash) const;
  // Names the content of a block in use. If another block already has the name, nothing changes.
  void SetName(int32_t block, const BlockHash& hash);
  // Forgets all names; false, and nothing changes, while any block is in use.
  bool Reset();

 private:
  struct Block {
    int32_t references = 0;
    int32_t previous = 0;  // neighbors in the free list; block 0 is its head and tail
    int32_t next = 0;
    bool named = false;
    BlockHash name;
  };

  void Unlink(int32_t block);
  void LinkAfter(int32_t position, int32_t block);

  std::vector<Block> blocks_;
  std::unordered_map<BlockHash, int32_t, BlockHashHasher> by_name_;
  int64_t num_free_ = 0;
};

}  // namespace tiercel::engine
