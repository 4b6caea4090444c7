#include "bench/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace tiercel::bench {
namespace {

using ::testing::ElementsAre;

// Values are numpy's: np.mean, np.median, np.std, np.percentile of this list.
const std::vector<double> kValues = {12.5, 3.25, 7.0, 7.0, 101.0, 0.5, 44.75};

TEST(Percentile, IsNumpys) {
  std::vector<double> sorted = kValues;
  std::sort(sorted.begin(), sorted.end());
  const std::pair<double, double> golden[] = {{0, 0.5},     {1, 0.665},       {25, 5.125},
                                              {50, 7.0},    {75, 28.625},     {90, 67.25},
                                              {99, 97.625}, {99.9, 100.6625}, {100, 101.0}};
  for (const auto& [percent, value] : golden) {
    EXPECT_NEAR(Percentile(sorted, percent), value, 1e-9) << percent;
  }
  EXPECT_EQ(Percentile({{4.0}}, 99), 4);
  EXPECT_NEAR(Percentile({{1.0, 2.0}}, 10), 1.1, 1e-12);
  EXPECT_EQ(Percentile({}, 99), 0);
}

TEST(Describe, IsNumpys) {
  const std::vector<double> percents = {90, 99};
  const Distribution values = Describe(kValues, percents);
  EXPECT_NEAR(values.mean, 25.142857142857142, 1e-12);
  EXPECT_EQ(values.median, 7);
  EXPECT_NEAR(values.std, 33.897918484045896, 1e-12);
  ASSERT_EQ(values.percentiles.size(), 2u);
  EXPECT_EQ(values.percentiles[1].first, 99);
  EXPECT_NEAR(values.percentiles[1].second, 97.625, 1e-9);
  const Distribution nothing = Describe({}, percents);
  EXPECT_EQ(nothing.mean, 0);
  EXPECT_EQ(nothing.std, 0);
}

Outcome Answered(double start_s, double ttft_s, std::vector<double> itls_s, int64_t tokens) {
  Outcome outcome;
  outcome.success = true;
  outcome.start_s = start_s;
  outcome.ttft_s = ttft_s;
  outcome.latency_s = ttft_s;
  for (const double itl : itls_s) outcome.latency_s += itl;
  outcome.itls_s = std::move(itls_s);
  outcome.prompt_tokens = 10;
  outcome.output_tokens = tokens;
  return outcome;
}

std::vector<Outcome> FourOutcomes() {
  Outcome failed;
  failed.error = "HTTP 400: no";
  failed.prompt_tokens = 99;  // counted nowhere
  // Of the first, two chunks hold five tokens; the last is a single token.
  return {Answered(100, 0.5, {1.0}, 5), failed, Answered(101, 0.25, {0.5, 0.25}, 3),
          Answered(103, 0.75, {}, 1)};
}

TEST(CalculateMetrics, ByTheirFormulas) {
  const Metrics metrics = CalculateMetrics(FourOutcomes(), 4, {});
  EXPECT_EQ(metrics.completed, 3);
  EXPECT_EQ(metrics.failed, 1);
  EXPECT_EQ(metrics.total_input, 30);
  EXPECT_EQ(metrics.total_output, 9);
  EXPECT_THAT(metrics.output_lens, ElementsAre(5, 0, 3, 1));
  EXPECT_DOUBLE_EQ(metrics.request_throughput, 3 / 4.0);
  EXPECT_DOUBLE_EQ(metrics.output_throughput, 9 / 4.0);
  EXPECT_DOUBLE_EQ(metrics.total_token_throughput, 39 / 4.0);
  EXPECT_FALSE(metrics.request_goodput.has_value());
  EXPECT_DOUBLE_EQ(metrics.ttft.mean, 500);  // (500 + 250 + 750) / 3
  // (latency − ttft) / (tokens − 1), of those with more than one: 1000 / 4 and 750 / 2.
  EXPECT_DOUBLE_EQ(metrics.tpot.mean, (250 + 375) / 2.0);
  EXPECT_DOUBLE_EQ(metrics.itl.mean, (1000 + 500 + 250) / 3.0);  // a chunk, not a token
  EXPECT_DOUBLE_EQ(metrics.itl.median, 500);
  EXPECT_DOUBLE_EQ(metrics.e2el.median, 1000);  // of 1500, 1000, 750
}

TEST(CalculateMetrics, Peaks) {
  // Chunks at 100.5, 101.5 | 101.25, 101.75, 102 | 103.75: three within the second from 101.
  const Metrics metrics = CalculateMetrics(FourOutcomes(), 4, {});
  EXPECT_EQ(metrics.max_output_tokens_per_s, 3);
  EXPECT_EQ(metrics.max_concurrent_requests, 2);
  // One that begins as another ends does not run with it.
  const std::vector<Outcome> in_turn = {Answered(0, 1, {}, 1), Answered(1, 1, {}, 1)};
  EXPECT_EQ(CalculateMetrics(in_turn, 2, {}).max_concurrent_requests, 1);
}

TEST(CalculateMetrics, Goodput) {
  MetricsOptions options;
  options.goodput_ms = {{"ttft", 500}};
  EXPECT_DOUBLE_EQ(*CalculateMetrics(FourOutcomes(), 4, options).request_goodput, 2 / 4.0);
  // One token has no TPOT and keeps every bound of it.
  options.goodput_ms = {{"tpot", 300}};
  EXPECT_DOUBLE_EQ(*CalculateMetrics(FourOutcomes(), 4, options).request_goodput, 2 / 4.0);
  options.goodput_ms = {{"ttft", 500}, {"e2el", 1200}};
  EXPECT_DOUBLE_EQ(*CalculateMetrics(FourOutcomes(), 4, options).request_goodput, 1 / 4.0);
}

TEST(CalculateMetrics, TokensThatTheServerDoesNotCount) {
  std::vector<Outcome> outcomes = {Answered(0, 1, {1}, 2)};
  outcomes[0].output_tokens.reset();
  outcomes[0].text = "abc";
  EXPECT_EQ(CalculateMetrics(outcomes, 1, {}).total_output, 1);
  MetricsOptions options;
  options.count_tokens = [](std::string_view text) { return static_cast<int64_t>(text.size()); };
  EXPECT_EQ(CalculateMetrics(outcomes, 1, options).total_output, 3);
}

TEST(CalculateMetrics, OfNothing) {
  const Metrics metrics = CalculateMetrics({}, 0, {});
  EXPECT_EQ(metrics.completed, 0);
  EXPECT_EQ(metrics.request_throughput, 0);
  EXPECT_EQ(metrics.ttft.mean, 0);
  EXPECT_EQ(metrics.max_output_tokens_per_s, 0);
}

}  // namespace
}  // namespace tiercel::bench
