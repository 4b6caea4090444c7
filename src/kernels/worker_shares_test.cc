#include "kernels/worker_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/environment.h"
#include "tensor/share.h"

namespace tiercel::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(SharesBySpeed, AreThoseOfTheKindsInTheMiddle) {
  // A fast worker that was disturbed, and a slow one that was lucky, have the shares of their kinds.
  const double speeds[] = {100, 31, 98, 41, 40, 55};
  const int kinds[] = {0, 0, 0, 1, 1, 1};
  EXPECT_THAT(SharesBySpeed(speeds, kinds), ElementsAre(32, 32, 32, 13, 13, 13));  // 41 / 98 = 13.4 / 32
}

TEST(SharesBySpeed, NobodyHasNothing) {
  const double speeds[] = {1000, 1};
  const int kinds[] = {0, 1};
  EXPECT_THAT(SharesBySpeed(speeds, kinds), ElementsAre(32, 1));
}

TEST(SharesBySpeed, AreEqualWhereSpeedsAre) {
  const double speeds[] = {100, 99, 101};
  const int kinds[] = {0, 1, 1};
  EXPECT_THAT(SharesBySpeed(speeds, kinds), IsEmpty());
}

TEST(ParseShares, TakesANumberForEachWorker) {
  EXPECT_THAT(*ParseShares("2,2,1", 3), ElementsAre(2, 2, 1));
  EXPECT_THAT(*ParseShares("3,3", 2), IsEmpty());
  for (const char* text : {"2,1", "2,2,1,1", "2,2,x", "2,,1", "2,0,1", "2,-1,1", "2,1001,1", "", "2,2,1,"}) {
    const auto shares = ParseShares(text, 3);
    ASSERT_FALSE(shares.has_value()) << text;
    EXPECT_THAT(shares.error().message(), HasSubstr("TIERCEL_CPU_SHARES: found \"" + std::string(text) + "\", expected"));
  }
}

TEST(DescribeShares, CountsRunsOfARank) {
  const int shares[] = {32, 32, 13, 13, 13, 32, 32, 32};
  EXPECT_EQ(DescribeShares(shares, 1), "2 × 32, 3 × 13, 3 × 32");
  EXPECT_EQ(DescribeShares(shares, 2), "2 × 32, 2 × 13 | 1 × 13, 3 × 32");
}

// Each item is one worker's, and a share is off by less than one of them.
TEST(SplitRange, DividesByShares) {
  const int32_t bounds[] = {0, 32, 64, 77, 78};
  for (int64_t n = 0; n < 300; ++n) {
    int64_t end = 0;
    for (int i = 0; i < 4; ++i) {
      const Share share{i, 4, bounds};
      const Range range = SplitRange(n, 1, share);
      EXPECT_EQ(range.begin, end);
      end = range.end;
      EXPECT_LT(std::abs(78 * range.size() - n * (share.end() - share.begin())), 78) << n << " " << i;
    }
    EXPECT_EQ(end, n);
  }
}

TEST(SplitRange, OneUnitEachIsTheEvenDivision) {
  const int32_t bounds[] = {0, 1, 2, 3, 4, 5};
  for (int64_t n = 0; n < 100; ++n) {
    for (int i = 0; i < 5; ++i) EXPECT_EQ(SplitRange(n, 3, {i, 5, bounds}), SplitRange(n, 3, {i, 5}));
  }
}

// Here CPUs of two kinds are in truth alike, and may be disturbed: all that is sure is that each has some share.
TEST(MeasureShares, GivesEveryWorkerSome) {
  const auto environment = Environment::Create({.threads = 2, .isa = "", .pin = false});
  ASSERT_TRUE(environment.has_value()) << environment.error();
  const int kinds[] = {0, 1};
  for (const int share : MeasureShares(*(*environment)->kernels, kinds, (*environment)->team.get())) {
    EXPECT_GE(share, 1);
    EXPECT_LE(share, kFullShare);
  }
}

}  // namespace
}  // namespace tiercel::kernels
