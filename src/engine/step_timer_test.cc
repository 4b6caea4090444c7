#include "engine/step_timer.h"

#include <gtest/gtest.h>

namespace tiercel::engine {
namespace {

TEST(StepTimerTest, PlansLateWhereTheLengthIsKnown) {
  StepTimer timer;
  timer.Started(100, 10.0);
  EXPECT_EQ(timer.PlanTime(), 10.0);  // nothing known: at once
  timer.Ended(12.0);
  timer.Started(1, 12.0);
  EXPECT_EQ(timer.PlanTime(), 12.0);  // of another size
  timer.Ended(12.1);
  timer.Started(100, 20.0);
  EXPECT_DOUBLE_EQ(timer.PlanTime(), 20.0 + 2.0 * 0.85);
  timer.Ended(21.0);
  timer.Started(120, 30.0);
  EXPECT_DOUBLE_EQ(timer.PlanTime(), 30.0 + 1.0 * 0.85);
  timer.Ended(31.0);
  timer.Started(66, 40.0);
  EXPECT_DOUBLE_EQ(timer.PlanTime(), 40.0 + 66.0 / 120 * 0.85);
  timer.Ended(45.0);  // delayed by something
  timer.Started(120, 50.0);
  EXPECT_DOUBLE_EQ(timer.PlanTime(), 50.0 + 1.0 * 0.85);
}

TEST(StepTimerTest, ShortStepsArePlannedAtOnce) {
  StepTimer timer;
  for (double now = 1; now < 5; ++now) {
    timer.Started(8, now);
    EXPECT_EQ(timer.PlanTime(), now);
    timer.Ended(now + 0.0005);
  }
}

TEST(StepTimerTest, AnySizeHasAPlace) {
  StepTimer timer;
  for (const int64_t tokens : {int64_t{1}, int64_t{1} << 30, int64_t{1} << 60}) {
    timer.Started(tokens, 0);
    timer.Ended(1);
  }
}

}  // namespace
}  // namespace tiercel::engine
