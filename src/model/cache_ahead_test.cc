#include "model/cache_ahead.h"

#include <sys/mman.h>

#include <vector>

#include <gtest/gtest.h>
#include "platform/buffer.h"

namespace tiercel::model {
namespace {

constexpr int64_t kPage = CacheAhead::kPage;
constexpr int kWorkers = 2;

class CacheAheadTest : public testing::Test {
 protected:
  void SetUp() override {
    auto buffer = platform::Buffer::Allocate(kPages * kPage);
    ASSERT_TRUE(buffer.has_value());
    buffer_ = *std::move(buffer);
    if (!platform::Populate(buffer_.data(), 0).ok()) GTEST_SKIP() << "the kernel cannot touch pages ahead";
    if (InMemory(0)) GTEST_SKIP() << "explicit huge pages that were touched when they were allocated";
    ahead_ = CacheAhead(buffer_.data(), kPages * kPage, 12 * kPage, kWorkers);
  }

  // What the kernel says, not what the class believes.
  bool InMemory(int64_t page) const {
    unsigned char first = 0;
    EXPECT_EQ(mincore(buffer_.as<char>() + page * kPage, 4096, &first), 0);
    return (first & 1) != 0;
  }
  std::vector<int64_t> PagesInMemory() const {
    std::vector<int64_t> pages;
    for (int64_t page = 0; page < kPages; ++page) {
      if (InMemory(page)) pages.push_back(page);
    }
    return pages;
  }
  // Pages [0, end).
  static std::vector<int64_t> Up(int64_t end) {
    std::vector<int64_t> pages;
    for (int64_t page = 0; page < end; ++page) pages.push_back(page);
    return pages;
  }
  // Pages that came into memory.
  int64_t Step(int64_t end, int64_t bytes) {
    const int64_t before = std::ssize(PagesInMemory());
    ahead_.BeginStep(end, bytes);
    TouchAll();
    return std::ssize(PagesInMemory()) - before;
  }
  void TouchAll() {
    for (int worker = 0; worker < kWorkers; ++worker) ahead_.Touch(worker);
  }

  static constexpr int64_t kPages = 41;
  static constexpr int64_t kAhead = 10;  // a quarter
  platform::Buffer buffer_;
  CacheAhead ahead_;
};

TEST_F(CacheAheadTest, IdleTimeTouchesAQuarterOfASmallCacheAPageAWorkerAtATime) {
  EXPECT_EQ(PagesInMemory(), Up(0));
  for (int64_t end = kWorkers; end <= kAhead; end += kWorkers) {
    ASSERT_TRUE(ahead_.BeginIdle());
    TouchAll();
    EXPECT_EQ(PagesInMemory(), Up(end));
  }
  EXPECT_FALSE(ahead_.BeginIdle());
  TouchAll();
  EXPECT_EQ(PagesInMemory(), Up(kAhead));
}

TEST_F(CacheAheadTest, StepsTouchTwiceWhatTheyWriteUntilTheDistanceIsThere) {
  // Half a page a step, so with two workers a page for each every other step. After n of these pairs n pages are
  // written and 2 · n touched; they are kAhead apart after kAhead pairs.
  for (int64_t n = 1; n <= kAhead; ++n) {
    EXPECT_EQ(Step(n * kPage - kPage / 2, kPage / 2), 0);
    EXPECT_EQ(Step(n * kPage, kPage / 2), kWorkers);
    EXPECT_EQ(PagesInMemory(), Up(2 * n));
  }
  EXPECT_FALSE(ahead_.BeginIdle());
}

TEST_F(CacheAheadTest, TheDistanceIsKeptAndEndsWithTheCache) {
  while (ahead_.BeginIdle()) TouchAll();
  for (int64_t end = 1; end <= kPages; ++end) {
    Step(end * kPage, kPage);
    // At most a page a worker short: they touch one each or none.
    const int64_t touched = std::ssize(PagesInMemory());
    EXPECT_GE(touched, std::min(kPages, end + kAhead - kWorkers)) << end;
    EXPECT_LE(touched, std::min(kPages, end + kAhead)) << end;
  }
  while (ahead_.BeginIdle()) TouchAll();
  EXPECT_EQ(PagesInMemory(), Up(kPages));
}

TEST_F(CacheAheadTest, AWriteFarAheadIsCaughtUpWithByAndBy) {
  EXPECT_EQ(Step(30 * kPage, kPage), kWorkers);
  EXPECT_EQ(PagesInMemory(), Up(kWorkers));
  int64_t steps = 1;
  for (; std::ssize(PagesInMemory()) < 30 + kAhead && steps < 100; ++steps) EXPECT_LE(Step(30 * kPage, kPage), kWorkers);
  EXPECT_EQ(steps, (30 + kAhead) / kWorkers);
}

TEST_F(CacheAheadTest, APromptOfManyPagesTouchesMany) {
  EXPECT_EQ(Step(5 * kPage, 5 * kPage), 10);
  EXPECT_EQ(Step(5 * kPage, 5 * kPage), 5);  // there are no more to touch
  EXPECT_EQ(PagesInMemory(), Up(5 + kAhead));
}

TEST_F(CacheAheadTest, AForgottenCacheNeedsNothingBeforeTheNextStep) {
  while (ahead_.BeginIdle()) TouchAll();
  buffer_.Empty();
  ahead_.Forget();
  EXPECT_FALSE(ahead_.BeginIdle());
  TouchAll();
  EXPECT_EQ(PagesInMemory(), Up(0));
  EXPECT_EQ(Step(kPage, kPage), kWorkers);
  while (ahead_.BeginIdle()) TouchAll();
  EXPECT_EQ(PagesInMemory(), Up(1 + kAhead));
}

TEST_F(CacheAheadTest, IdleTimeTouchesNoMoreThanTheLongestRequestFills) {
  ahead_ = CacheAhead(buffer_.data(), kPages * kPage, 2 * kPage + 1, kWorkers);
  while (ahead_.BeginIdle()) TouchAll();
  EXPECT_EQ(PagesInMemory(), Up(3));
}

TEST(CacheAhead, WithoutACacheThereIsNothingToDo) {
  CacheAhead none;
  none.BeginStep(100, 100);
  none.Touch(0);
  EXPECT_FALSE(none.BeginIdle());
}

}  // namespace
}  // namespace tiercel::model
