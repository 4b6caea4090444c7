#include "engine/step_cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/made_up_machine.h"

namespace tiercel::engine {
namespace {

testing::Matcher<double> About(double value, double share) {
  return testing::DoubleNear(value, share * value);
}

// What a server sees: prompts of 200 tokens in a step each, then eight streams, beside which others come
// in parts of 64.
template <typename Time>
void Serve(const Time& time, int rounds, StepCost* cost) {
  const auto run = [&](const StepWork& work) { cost->Record(work, time(work)); };
  for (int round = 0; round < rounds; ++round) {
    run(MakeWork(0, 0, 200, 0));
    for (int64_t context = 200; context < 300; context += 10) {
      run(MakeWork(8, context));
      run(MakeWork(7, context, 64, 64 * (context % 3)));
    }
  }
}

TEST(StepCostTest, StepWorkCountsKeysAndProducts) {
  StepWork work;
  work.Add(9, 1);  // a decode reads ten keys
  EXPECT_EQ(work.rows, 1);
  EXPECT_EQ(work.keys, 10);
  EXPECT_EQ(work.products, 0);
  work.Add(100, 3);  // rows that see 101, 102 and 103 keys
  EXPECT_EQ(work.rows, 4);
  EXPECT_EQ(work.keys, 113);
  EXPECT_EQ(work.products, 306);
}

TEST(StepCostTest, KnowsNothingBeforeTheFirstStep) {
  StepCost cost;
  EXPECT_FALSE(cost.known());
  cost.Record(StepWork{}, 1.0);
  cost.Record(MakeWork(1, 10), 0.0);
  EXPECT_FALSE(cost.known());
  cost.Record(MakeWork(0, 0, 100), 0.5);
  ASSERT_TRUE(cost.known());
  EXPECT_DOUBLE_EQ(cost.Seconds(MakeWork(0, 0, 100)), 0.5);
  // One size gives a rate.
  EXPECT_DOUBLE_EQ(cost.Seconds(MakeWork(0, 0, 50)), 0.25);
  EXPECT_DOUBLE_EQ(cost.Seconds(MakeWork(0, 0, 200)), 1.0);
}

TEST(StepCostTest, LearnsALinearMachine) {
  const Machine machine = LinearMachine(30, 2000, 3, 0.5);
  StepCost cost;
  Serve(machine, 3, &cost);
  for (const StepWork& work :
       {MakeWork(8, 250), MakeWork(7, 250, 64, 64), MakeWork(0, 0, 200), MakeWork(7, 250, 30, 64),
        MakeWork(7, 250, 120, 64), MakeWork(0, 0, 400)}) {
    EXPECT_THAT(cost.Seconds(work), About(machine(work), 0.03)) << work.rows;
  }
}

TEST(StepCostTest, LearnsWhatContextsCost) {
  const Machine machine = LinearMachine(30, 2000, 3, 0.5);
  StepCost cost;
  for (int64_t context = 100; context < 4000; context += 100) {
    cost.Record(MakeWork(4, context), machine(MakeWork(4, context)));
    cost.Record(MakeWork(4, context, 60, context), machine(MakeWork(4, context, 60, context)));
  }
  // Twice as far as it has seen.
  for (const StepWork& work : {MakeWork(4, 8000), MakeWork(4, 200, 60, 8000)}) {
    EXPECT_THAT(cost.Seconds(work), About(machine(work), 0.05)) << work.products;
  }
}

TEST(StepCostTest, LearnsAMachineWithAFixedCost) {
  const Machine machine = OverlappingMachine(40, 2000);
  StepCost cost;
  Serve(machine, 3, &cost);
  for (const StepWork& work : {MakeWork(8, 250), MakeWork(7, 250, 64, 0), MakeWork(0, 0, 200)}) {
    EXPECT_THAT(cost.Seconds(work), About(machine(work), 0.02)) << work.rows;
  }
  // Where it has seen nothing it knows that more rows take no less, and no more each.
  double before = 0;
  for (int64_t rows = 1; rows < 4000; ++rows) {
    const double seconds = cost.Seconds(MakeWork(0, 0, rows));
    ASSERT_GE(seconds, before) << rows;
    if (rows > 1) {
      const double share = static_cast<double>(rows) / static_cast<double>(rows - 1);
      ASSERT_LE(seconds, before * share * (1 + 1e-9)) << rows;
    }
    before = seconds;
  }
}

TEST(StepCostTest, NoiseAndStepsThatAreHeldUpMoveItLittle) {
  const Machine machine = LinearMachine(30, 2000, 3, 0.5);
  std::mt19937 random(7);
  int number = 0;
  const auto time = [&](const StepWork& work) {
    const double noise = std::uniform_real_distribution(0.95, 1.05)(random);
    return machine(work) * noise * (++number % 10 == 0 ? 4 : 1);
  };
  StepCost cost;
  for (int round = 0; round < 20; ++round) {
    Serve(time, 1, &cost);
    if (round < 5) continue;
    for (const StepWork& work :
         {MakeWork(8, 250), MakeWork(7, 250, 64, 64), MakeWork(0, 0, 200)}) {
      EXPECT_THAT(cost.Seconds(work), About(machine(work), 0.1)) << work.rows;
    }
  }
}

TEST(StepCostTest, FollowsAMachineThatChanges) {
  const Machine quick = LinearMachine(30, 2000, 3, 0.5), slow = LinearMachine(60, 4000, 6, 1);
  StepCost cost;
  Serve(quick, 3, &cost);
  for (const Machine& machine : {slow, quick}) {
    // Three steps of a size are enough, and those of other sizes follow them as far as they must.
    for (int i = 0; i < 3; ++i) {
      cost.Record(MakeWork(8, 250), machine(MakeWork(8, 250)));
      cost.Record(MakeWork(7, 250, 64, 64), machine(MakeWork(7, 250, 64, 64)));
    }
    EXPECT_THAT(cost.Seconds(MakeWork(8, 250)), About(machine(MakeWork(8, 250)), 0.1));
    EXPECT_THAT(cost.Seconds(MakeWork(7, 250, 64, 64)),
                About(machine(MakeWork(7, 250, 64, 64)), 0.1));
    EXPECT_THAT(cost.Seconds(MakeWork(7, 250, 40, 64)),
                About(machine(MakeWork(7, 250, 40, 64)), 0.15));
    Serve(machine, 3, &cost);
  }
}

TEST(StepCostTest, TheNewerOfTwoThatContradictIsBelieved) {
  StepCost cost;
  // The first step is held up: 64 rows cannot take longer than 100.
  cost.Record(MakeWork(0, 0, 64), 5.0);
  cost.Record(MakeWork(0, 0, 100), 0.2);
  EXPECT_DOUBLE_EQ(cost.Seconds(MakeWork(0, 0, 64)), 0.2);
  EXPECT_DOUBLE_EQ(cost.Seconds(MakeWork(0, 0, 100)), 0.2);
  // Four times as many rows cannot take longer than four times.
  cost.Record(MakeWork(0, 0, 25), 0.01);
  EXPECT_DOUBLE_EQ(cost.Seconds(MakeWork(0, 0, 100)), 0.04);
}

TEST(StepCostTest, AStepThatWasHeldUpIsNotBelievedBesideOnesThatWereNot) {
  StepCost cost;
  for (int i = 0; i < 3; ++i) {
    cost.Record(MakeWork(0, 0, 1), 0.04);
    cost.Record(MakeWork(0, 0, 64), 0.16);
  }
  cost.Record(MakeWork(0, 0, 9), 1.0);
  EXPECT_LE(cost.Seconds(MakeWork(0, 0, 9)), 0.16);
  EXPECT_LE(cost.Seconds(MakeWork(0, 0, 4)), 0.1);
  EXPECT_DOUBLE_EQ(cost.Seconds(MakeWork(0, 0, 64)), 0.16);
}

TEST(StepCostTest, AnySizeHasAPlace) {
  StepCost cost;
  for (const int64_t rows : {int64_t{1}, int64_t{1} << 30, int64_t{1} << 40}) {
    StepWork work;
    work.rows = rows;
    cost.Record(work, 1);
    EXPECT_LE(cost.Seconds(work), 1);
  }
}

}  // namespace
}  // namespace tiercel::engine
