#include "engine/block_pool.h"

#include "base/check.h"

namespace tiercel::engine {

BlockPool::BlockPool(int64_t num_blocks) : blocks_(static_cast<size_t>(num_blocks)) {
  CHECK_GE(num_blocks, 2);
  for (int32_t block = 1; block < num_blocks; ++block) LinkAfter(blocks_[0].previous, block);
}

void BlockPool::Unlink(int32_t block) {
  Block& b = blocks_[block];
  blocks_[b.previous].next = b.next;
  blocks_[b.next].previous = b.previous;
  --num_free_;
}

void BlockPool::LinkAfter(int32_t position, int32_t block) {
  Block& b = blocks_[block];
  b.previous = position;
  b.next = blocks_[position].next;
  blocks_[b.next].previous = block;
  blocks_[position].next = block;
  ++num_free_;
}

int32_t BlockPool::Allocate() {
  CHECK_GT(num_free_, 0);
  const int32_t block = blocks_[0].next;
  Unlink(block);
  Block& b = blocks_[block];
  if (b.named) {
    by_name_.erase(b.name);
    b.named = false;
  }
  b.references = 1;
  return block;
}

void BlockPool::AddReference(int32_t block) {
  if (blocks_[block].references++ == 0) Unlink(block);
}

void BlockPool::Release(int32_t block) {
  Block& b = blocks_[block];
  CHECK_MSG(b.references > 0, "block {} is not in use", block);
  if (--b.references > 0) return;
  // A nameless block is of no use to anybody: next to be handed out, and warm in the cache.
  LinkAfter(b.named ? blocks_[0].previous : 0, block);
}

std::optional<int32_t> BlockPool::Find(const BlockHash& hash) const {
  const auto it = by_name_.find(hash);
  if (it == by_name_.end()) return std::nullopt;
  return it->second;
}

void BlockPool::SetName(int32_t block, const BlockHash& hash) {
  Block& b = blocks_[block];
  CHECK_MSG(b.references > 0, "block {} is not in use", block);
  if (b.named || !by_name_.emplace(hash, block).second) return;
  b.named = true;
  b.name = hash;
}

bool BlockPool::Reset() {
  if (num_free_ != num_usable()) return false;
  by_name_.clear();
  for (Block& b : blocks_) b.named = false;
  return true;
}

}  // namespace tiercel::engine
