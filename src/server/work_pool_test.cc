#include "server/work_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <new>
#include <string>

namespace tiercel::server {
namespace {

constexpr WorkCost kLong = 1 << 20;  // a second's work

std::string Order(Turns<char>* turns, bool only_short) {
  std::string order;
  while (const std::optional<char> task = turns->Next(only_short)) order += *task;
  return order;
}

TEST(Turns, EqualCostsKeepTheirOrder) {
  Turns<char> turns;
  for (const char c : std::string("abcd")) turns.Add(5, 100, c);
  EXPECT_EQ(Order(&turns, false), "abcd");
}

TEST(Turns, ShortWorkOvertakesLongWorkThatWaits) {
  Turns<char> turns;
  turns.Add(0, kLong, 'L');
  turns.Add(0, 2 * kLong, 'M');
  turns.Add(10, 200, 'b');
  turns.Add(10, 100, 'a');
  EXPECT_EQ(Order(&turns, false), "abLM");
}

// However much short work comes, a long one waits about as long as it would take.
TEST(Turns, LongWorkIsNotOvertakenForEver) {
  Turns<char> turns;
  turns.Add(0, kLong, 'L');
  int64_t now = 0;
  std::string done;
  while (done.find('L') == std::string::npos) {
    ASSERT_LE(now, kLong);
    turns.Add(now, 1000, 's');
    done += *turns.Next(false);
    now += 1000;
  }
  EXPECT_GE(now, kLong - 2000);
}

TEST(Turns, WhatIsKeptForShortWorkDoesNoLongWork) {
  Turns<char> turns;
  turns.Add(0, kMaxShortCost + 1, 'L');
  EXPECT_TRUE(turns.empty(true));
  EXPECT_FALSE(turns.Next(true));
  turns.Add(kLong, kMaxShortCost, 's');
  EXPECT_EQ(Order(&turns, true), "s");
  EXPECT_EQ(Order(&turns, false), "L");
}

// Long work that occupies every general thread does not end before the short work behind it.
TEST(WorkPool, LongWorkNeverStandsBeforeShortWork) {
  WorkPool pool(2);
  std::promise<void> short_done;
  std::shared_future<void> released = short_done.get_future().share();
  std::atomic<int> long_done{0};
  std::promise<void> all_done;
  for (int i = 0; i < 6; ++i) {
    pool.Post(kLong, [&, released] {
      released.wait();
      if (++long_done == 6) all_done.set_value();
    });
  }
  pool.Post(10, [&] {
    EXPECT_EQ(long_done, 0);
    short_done.set_value();
  });
  all_done.get_future().wait();
}

TEST(WorkPool, SurvivesWhatATaskThrows) {
  WorkPool pool(1);
  for (const WorkCost cost : {WorkCost{1}, kLong}) pool.Post(cost, [] { throw std::bad_alloc(); });
  std::promise<void> first, second;
  pool.Post(1, [&] { first.set_value(); });
  pool.Post(kLong, [&] { second.set_value(); });
  first.get_future().wait();
  second.get_future().wait();
}

}  // namespace
}  // namespace tiercel::server
