#include "engine/prefill_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/made_up_machine.h"

namespace tiercel::engine {
namespace {

constexpr int64_t kBudget = 2048;

struct Setting {
  Machine machine;
  double target_itl = 0;
  int64_t budget = kBudget;
};

// The parts that a step takes of prompts that wait, none of whose tokens are in the cache.
std::vector<int64_t> Parts(const Setting& setting, int64_t streams,
                           const std::vector<int64_t>& prompts, int64_t start = 0,
                           bool shares = false) {
  StepCost cost;
  Train(setting.machine, &cost);
  PrefillPlanner planner(&cost, setting.target_itl, setting.budget);
  StepWork work = MakeWork(streams, 250);
  planner.Begin(work, streams, std::ssize(prompts));
  std::vector<int64_t> parts;
  for (const int64_t left : prompts) {
    const bool first = parts.empty();
    const int64_t count = planner.Part(work, {start, left, streams, first && shares},
                                       setting.budget - work.rows);
    if (count == 0) break;
    work.Add(start, count);
    parts.push_back(count);
  }
  return parts;
}

const Machine kMachine = LinearMachine(10, 2000, 3, 0.2);

TEST(PrefillPlannerTest, CutsNothingUntilStepsWereMeasured) {
  StepCost cost;
  PrefillPlanner planner(&cost, 0, kBudget);
  planner.Begin(MakeWork(8, 100), 8, 1);
  EXPECT_EQ(planner.Part(MakeWork(8, 100), {0, 3000, 8, true}, 2040), 2040);
  PrefillPlanner without(nullptr, 0.001, kBudget);
  without.Begin({}, 0, 1);
  EXPECT_EQ(without.Part({}, {0, 500, 0, false}, kBudget), 500);
}

TEST(PrefillPlannerTest, WithoutStreamsAPromptGoesAlone) {
  EXPECT_THAT(Parts({kMachine}, 0, {200, 200, 200}), testing::ElementsAre(200));
  EXPECT_THAT(Parts({kMachine}, 0, {700, 200, 200}), testing::SizeIs(1));
}

TEST(PrefillPlannerTest, ShortPromptsShareAStep) {
  // 10 ms beside 2 ms a row: 30 rows have 0.86 of the rate without the 10 ms, 60 rows 0.92.
  EXPECT_THAT(Parts({LinearMachine(10, 2000)}, 0, std::vector<int64_t>(20, 30)),
              testing::ElementsAre(30, 30));
}

TEST(PrefillPlannerTest, PartsOfALongPromptKeepTheRate) {
  const std::vector<int64_t> parts = Parts({kMachine}, 0, {4000});
  ASSERT_EQ(parts.size(), 1u);
  const auto rate = [](int64_t count) {
    return static_cast<double>(count) / kMachine(MakeWork(0, 0, count));
  };
  double best = 0;
  for (int64_t count = 1; count <= kBudget; ++count) best = std::max(best, rate(count));
  EXPECT_GT(rate(parts[0]), 0.965 * best);
  EXPECT_LT(parts[0], 512);
  // The rest of a prompt is never less than an efficient part.
  EXPECT_THAT(Parts({kMachine}, 0, {parts[0] + 40}), testing::ElementsAre(parts[0] + 40));
}

TEST(PrefillPlannerTest, AStepThatCostsTheSameWhateverIsInItIsFull) {
  const Machine machine = OverlappingMachine(50, 0);
  EXPECT_THAT(Parts({machine}, 0, {10000}), testing::ElementsAre(kBudget));
  EXPECT_THAT(Parts({machine}, 8, {20400}), testing::ElementsAre(kBudget - 8));
}

TEST(PrefillPlannerTest, BesideStreamsPromptsHaveThreeQuartersOfTheTime) {
  const std::vector<int64_t> parts = Parts({kMachine}, 8, {200});
  ASSERT_EQ(parts.size(), 1u);
  const double streams = kMachine(MakeWork(8, 250));
  EXPECT_LT(kMachine(MakeWork(8, 250, parts[0])), 4.1 * streams);
  // 200 tokens in even parts, of which one less would not do.
  EXPECT_GT(kMachine(MakeWork(8, 250, 32 + parts[0])), 3.9 * streams);
  EXPECT_EQ((parts[0] + 8) % 8, 0);
}

TEST(PrefillPlannerTest, BesideStreamsAPartMayHoldTheEndOfOnePromptAndTheBeginningOfTheNext) {
  const std::vector<int64_t> parts = Parts({LinearMachine(40, 2000)}, 8, {24, 200, 200});
  // 4 × 56 ms leave 168, 84 rows; all rows are a multiple of 8.
  EXPECT_THAT(parts, testing::ElementsAre(24, 56));
}

TEST(PrefillPlannerTest, ManyWhoWaitHaveTheShareOfMany) {
  // 40 + 2 ms; seven of eight are for the prompts: 294 ms.
  const std::vector<int64_t> parts =
      Parts({LinearMachine(40, 2000)}, 1, std::vector<int64_t>(7, 200));
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_NEAR(static_cast<double>(parts[0]), 147, 16);
}

TEST(PrefillPlannerTest, BesideALongPromptStreamsHaveAStepToThemselvesNowAndThen) {
  StepCost cost;
  Train(kMachine, &cost);
  const StepWork streams = MakeWork(8, 250);
  for (const double target : {0.0, 0.2}) {
    PrefillPlanner planner(&cost, target, kBudget);
    int64_t alone = 0, before = 0;
    for (int64_t step = 0; step < 170; ++step) {
      planner.Begin(streams, 8, 1);
      if (planner.Part(streams, {40 * step, 40000, 8, false}, 2040) > 0) continue;
      EXPECT_GE(step - before, 16);
      before = step;
      ++alone;
    }
    // A target needs no knowledge of what the streams take alone.
    EXPECT_EQ(alone, target > 0 ? 0 : 10);
  }
}

TEST(PrefillPlannerTest, TheTargetBoundsAStepBesideStreams) {
  for (const int64_t start : {0, 1000, 3000}) {
    const std::vector<int64_t> parts =
        Parts({LinearMachine(40, 2000, 3, 0.2), 0.15}, 8, {4000}, start);
    ASSERT_EQ(parts.size(), 1u);
    const double seconds =
        LinearMachine(40, 2000, 3, 0.2)(MakeWork(8, 250, parts[0], start));
    EXPECT_LE(seconds, 0.15) << start;
    EXPECT_GE(seconds, 0.1) << start;
  }
  // A wider target than what would be taken without gives larger parts.
  EXPECT_GT(Parts({LinearMachine(40, 2000), 0.5}, 8, {4000})[0],
            Parts({LinearMachine(40, 2000)}, 8, {4000})[0]);
  // Without streams there are no gaps.
  EXPECT_EQ(Parts({LinearMachine(40, 2000), 0.1}, 0, {200})[0], 200);
}

// Steps that take up to a third longer than the machine's mean: 99 of 100 keep the target, and the parts are not smaller than that asks for.
TEST(PrefillPlannerTest, TheTargetHoldsForStepsThatAreNotAllAlike) {
  const Machine machine = LinearMachine(30, 1000);
  StepCost cost;
  Train(machine, &cost);
  constexpr double kTarget = 0.1;
  PrefillPlanner planner(&cost, kTarget, kBudget);
  const StepWork streams = MakeWork(4, 250);
  std::mt19937 random(3);
  int64_t late = 0, tokens = 0;
  constexpr int64_t kSteps = 3000, kLearning = 500;
  for (int64_t step = 0; step < kSteps; ++step) {
    planner.Begin(streams, 4, 2);
    const int64_t count = planner.Part(streams, {0, 100000, 4, false}, 2000);
    StepWork work = streams;
    work.Add(0, count);
    const double seconds = machine(work) * std::uniform_real_distribution(0.75, 1.33)(random);
    planner.Took(work, seconds);
    cost.Record(work, seconds);
    if (step < kLearning) continue;
    if (seconds > kTarget) ++late;
    tokens += count;
  }
  EXPECT_LE(late, (kSteps - kLearning) / 50);
  // 100 ms / 1.33 leave 41 tokens beside the streams, of which steps of whole eights of rows hold 36 or 28.
  EXPECT_GE(tokens, 26 * (kSteps - kLearning));
}

TEST(PrefillPlannerTest, ATargetThatCannotBeMetStopsNoPrompt) {
  EXPECT_THAT(Parts({kMachine, 0.001}, 8, {4000}), testing::ElementsAre(8));
  EXPECT_THAT(Parts({kMachine, 0.001}, 8, {5, 5}), testing::ElementsAre(5));
}

TEST(PrefillPlannerTest, WhatNobodySeesIsNotCut) {
  const Machine quick = LinearMachine(0.5, 10);  // 1000 tokens in 10.5 ms
  EXPECT_THAT(Parts({quick}, 8, {1000}), testing::ElementsAre(1000));
  EXPECT_THAT(Parts({quick}, 0, {500, 500}), testing::ElementsAre(500, 500));
}

TEST(PrefillPlannerTest, ALongPromptLeavesHalfToShortOnesBehindIt) {
  const std::vector<int64_t> alone = Parts({kMachine}, 0, {16000, 60}, 0, true);
  ASSERT_EQ(alone.size(), 2u);
  EXPECT_EQ(alone[1], 60);
  EXPECT_NEAR(static_cast<double>(alone[0]),
              static_cast<double>(Parts({kMachine}, 0, {16000})[0]) / 2, 16);

  // 4 × 56 ms leave 168: 42 rows for each.
  const std::vector<int64_t> beside =
      Parts({LinearMachine(40, 2000)}, 8, {16000, 60}, 0, true);
  ASSERT_EQ(beside.size(), 2u);
  EXPECT_NEAR(static_cast<double>(beside[0]), 42, 8);
  EXPECT_NEAR(static_cast<double>(beside[0] + beside[1]), 84, 8);
}

TEST(PrefillPlannerTest, TheBudgetStaysTheUpperBound) {
  for (const int64_t budget : {1, 9, 64}) {
    for (const int64_t streams : {0, 1}) {
      if (budget <= streams) continue;
      const std::vector<int64_t> parts = Parts({kMachine, 0, budget}, streams, {4000, 4000});
      int64_t sum = streams;
      for (const int64_t part : parts) sum += part;
      EXPECT_LE(sum, budget);
      EXPECT_GE(sum, 1);
    }
  }
}

}  // namespace
}  // namespace tiercel::engine
