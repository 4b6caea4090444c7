// Expected levels are those of Python's `sorted(set(map(round, numpy.linspace(low, high, count)[1:-1])))`.
#include "bench/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/json_reader.h"

namespace tiercel::bench {
namespace {

using api::Json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

SweepItem OneItem(std::string_view json) { return ParseParameterSweep("p.json", "[" + std::string(json) + "]")->at(0); }

Json::Array Results(std::string_view json) { return *api::ParseJson(json)->array(); }

TEST(Workload, LevelsLieEvenlyBetween) {
  EXPECT_THAT(LevelsBetween(1, 10, 10), ElementsAre(2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(LevelsBetween(1, 4, 3), ElementsAre(2));  // 2.5, half to even
  EXPECT_THAT(LevelsBetween(2, 5, 3), ElementsAre(4));  // 3.5
  EXPECT_THAT(LevelsBetween(1, 100, 5), ElementsAre(26, 50, 75));
}

TEST(Workload, NoLevelTwiceAndNoneOfZero) {
  EXPECT_THAT(LevelsBetween(1, 3, 10), ElementsAre(1, 2, 3));
  EXPECT_THAT(LevelsBetween(1, 0, 10), ElementsAre(1));
  EXPECT_THAT(LevelsBetween(1, 9, 2), IsEmpty());
}

TEST(Workload, ReachedLevelIsTheMeanOfRuns) {
  const Json::Array runs = Results(R"([{"request_throughput": 2.0, "mean_e2el_ms": 1500.0},
                                       {"request_throughput": 4, "mean_e2el_ms": 2000}])");
  EXPECT_DOUBLE_EQ(*ReachedLevel(WorkloadVariable::kRequestRate, runs), 3);
  EXPECT_DOUBLE_EQ(*ReachedLevel(WorkloadVariable::kMaxConcurrency, runs), (2 * 1.5 + 4 * 2) / 2);
  const auto none = ReachedLevel(WorkloadVariable::kMaxConcurrency, Results(R"([{"request_throughput": 2.0}])"));
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), HasSubstr("mean_e2el_ms: found none"));
}

TEST(Workload, PromptsAreThoseOfTheParametersOrTheCommand) {
  EXPECT_EQ(*PromptCount({}, {"x"}), 1000);
  EXPECT_EQ(*PromptCount({}, {"x", "--num-prompts", "30"}), 30);
  EXPECT_EQ(*PromptCount({}, {"x", "--num-prompts=31"}), 31);
  EXPECT_EQ(*PromptCount(OneItem(R"({"num-prompts": 5})"), {"x", "--num-prompts", "30"}), 5);
  EXPECT_FALSE(PromptCount({}, {"x", "--num-prompts", "none"}));
  EXPECT_FALSE(PromptCount(OneItem(R"({"num_prompts": 0})"), {"x"}));
}

TEST(Workload, FoldersNameTheLevel) {
  const SweepItem bench = OneItem(R"({"random_input_len": 5})");
  EXPECT_EQ(SweepFolder(OneItem(R"({"a": 1})"), WithParameter(bench, "max_concurrency", Json(int64_t{1})), "request_rate=1"),
            "SERVE--a=1-BENCH--random_input_len=5-max_concurrency=1-WL--request_rate=1");
  EXPECT_EQ(SweepFolder({}, {}, "request_rate=4"), "WL--request_rate=4");
}

}  // namespace
}  // namespace tiercel::bench
