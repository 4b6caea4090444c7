#include "bench/traffic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tiercel::bench {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(ArrivalTimes, AllAtOnceEvenlyAndAsAPoissonProcess) {
  EXPECT_THAT(ArrivalTimes({}, 3, 1), ElementsAre(0, 0, 0));
  EXPECT_THAT(ArrivalTimes({4, kInf, {}}, 3, 1), ElementsAre(0.25, 0.5, 0.75));

  constexpr int64_t kCount = 20'000;
  const std::vector<double> times = ArrivalTimes({2, 1, {}}, kCount, 1);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_NEAR(times.back(), kCount / 2.0, 1e-6) << "the rate that was asked for";
  EXPECT_EQ(times, ArrivalTimes({2, 1, {}}, kCount, 1)) << "the same seed, the same times";
  EXPECT_NE(times, ArrivalTimes({2, 1, {}}, kCount, 2));
}

// Intervals' coefficient of variation is 1 / √burstiness (that of a gamma distribution).
TEST(ArrivalTimes, BurstinessIsTheIntervalsShape) {
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    constexpr int64_t kCount = 50'000;
    const std::vector<double> times = ArrivalTimes({10, burstiness, {}}, kCount, 3);
    double squares = 0;
    for (int64_t i = 1; i < kCount; ++i) squares += std::pow(times[i] - times[i - 1] - 0.1, 2);
    const double variation = std::sqrt(squares / (kCount - 1)) / 0.1;
    EXPECT_NEAR(variation, 1 / std::sqrt(burstiness), 0.05 / std::sqrt(burstiness)) << burstiness;
  }
}

TEST(ArrivalTimes, RampUp) {
  const Traffic linear{kInf, kInf, RampUp{false, 1, 5}};
  EXPECT_EQ(RateAt(linear, 0, 5), 1);
  EXPECT_EQ(RateAt(linear, 2, 5), 3);
  EXPECT_EQ(RateAt(linear, 4, 5), 5);
  EXPECT_THAT(ArrivalTimes(linear, 3, 1), ElementsAre(1, DoubleNear(1 + 1 / 3.0, 1e-12),
                                                      DoubleNear(1 + 1 / 3.0 + 1 / 5.0, 1e-12)));
  const Traffic exponential{kInf, kInf, RampUp{true, 1, 16}};
  EXPECT_DOUBLE_EQ(RateAt(exponential, 2, 5), 4);
  EXPECT_EQ(RateAt(exponential, 0, 1), 1) << "of one request";
}

}  // namespace
}  // namespace tiercel::bench
