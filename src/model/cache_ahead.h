// CacheAhead: the memory of the KV cache is there before it is written.
//
// The cache costs memory only as it is written: the kernel gives a page at its first touch. Of 2 MiB that takes 0.2 ms, and
// 4.4 ms in a virtual machine whose host takes back what is free (both measured): 32 ms for a block of 14 MiB, within one step,
// which all streams wait for. So pages are touched ahead: while nothing runs, up to a distance beyond the last block that was
// written; beside each step, twice what its tokens fill, until that distance is there again. No step pays for more than
// its share.
//
// This takes blocks to be handed out from the first to the last, as engine::BlockPool does with those it never had in
// use. A block out of this order is touched by who writes it. Pure logic but for Touch.
#pragma once

#include <cstdint>

#include "platform/buffer.h"

namespace tiercel::model {

class CacheAhead {
 public:
  static constexpr auto kPage = static_cast<int64_t>(platform::Buffer::kHugePage);
  // At most so far, a quarter of the cache, and what the longest request fills.
  static constexpr int64_t kMaxAhead = int64_t{512} << 20;

  CacheAhead() = default;  // no cache
  // Of one rank: `bytes`, whole pages, that `workers` touch. The longest request fills `longest` bytes.
  CacheAhead(void* cache, int64_t bytes, int64_t longest, int workers);

  // A step writes the cache up to byte `end` at most, and `bytes` of it. Touch then is to be called within it.
  void BeginStep(int64_t end, int64_t bytes);
  // While nothing runs. False: nothing is to be touched; else Touch is to be called.
  bool BeginIdle();
  // On each worker, its part of what was begun.
  void Touch(int worker) const;
  // The cache has no memory any more, and needs none before the next step.
  void Forget();

 private:
  void Take(int64_t pages);

  char* cache_ = nullptr;
  int64_t pages_ = 0;
  int workers_ = 1;
  int64_t ahead_ = 0;    // pages
  int64_t begin_ = 0;    // what Touch touches: [begin_, touched_)
  int64_t touched_ = 0;  // all pages before it have been, or are about to be
  int64_t target_ = 0;   // up to where they should be
  int64_t due_ = 0;      // bytes that steps have filled, doubled, and for which no page has been touched
};

}  // namespace tiercel::model
