#include "model/cache_ahead.h"

#include <algorithm>

#include "base/check.h"
#include "base/round_up.h"

namespace tiercel::model {
namespace {

constexpr int64_t kShare = 4;      // of the cache at most one part in so many is touched ahead
constexpr int64_t kForAByte = 2;   // bytes touched for each that is written, until the distance is there

}  // namespace

CacheAhead::CacheAhead(void* cache, int64_t bytes, int64_t longest, int workers)
    : cache_(static_cast<char*>(cache)),
      pages_(bytes / kPage),
      workers_(workers),
      ahead_(std::min({kMaxAhead / kPage, pages_ / kShare, CeilDiv(longest, kPage)})),
      target_(ahead_) {
  CHECK_EQ(bytes % kPage, 0);
  // A kernel before 5.14 cannot do it: then who writes a page touches it.
  if (!platform::Populate(cache, 0).ok()) pages_ = ahead_ = target_ = 0;
}

void CacheAhead::Take(int64_t pages) {
  begin_ = touched_;
  touched_ += pages;
}

void CacheAhead::BeginStep(int64_t end, int64_t bytes) {
  target_ = std::max(target_, std::min(pages_, CeilDiv(end, kPage) + ahead_));
  const int64_t left = target_ - touched_;
  due_ = left > 0 ? due_ + kForAByte * bytes : 0;
  // A page for each worker, or none: who has none waits for the others at the first barrier.
  const int64_t pages = std::min(left, due_ / kPage / workers_ * workers_);
  due_ -= pages * kPage;
  Take(pages);
}

bool CacheAhead::BeginIdle() {
  Take(std::min<int64_t>(target_ - touched_, workers_));
  return touched_ > begin_;
}

void CacheAhead::Touch(int worker) const {
  for (int64_t page = begin_ + worker; page < touched_; page += workers_) {
    // Without memory, who writes the page will say so.
    if (!platform::Populate(cache_ + page * kPage, kPage).ok()) return;
  }
}

void CacheAhead::Forget() { begin_ = touched_ = target_ = due_ = 0; }

}  // namespace tiercel::model
