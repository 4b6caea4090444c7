#include "comm/link_check.h"

#include <gtest/gtest.h>

#include "comm/transport_test_util.h"

namespace tiercel::comm {
namespace {

TEST(LinkCheck, EachPairAndTheSumsOfAll) {
  const Transports transports = ConnectAll(3);
  Each(transports, [](Transport& transport) {
    const auto figures = CheckLinks(&transport);
    ASSERT_TRUE(figures.has_value()) << figures.error();
    ASSERT_EQ(figures->sums.size(), 2u);
    EXPECT_EQ(figures->sums[0].bytes, 8192);
    EXPECT_EQ(figures->sums[1].bytes, 40 << 20);
    for (const SumFigures& sum : figures->sums) {
      EXPECT_TRUE(sum.is_right);
      EXPECT_GT(sum.seconds, 0);
    }
    if (!transport.process().is_first()) return;
    ASSERT_EQ(figures->pairs.size(), 3u);
    const int expected[3][2] = {{0, 1}, {0, 2}, {1, 2}};
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(figures->pairs[i].from, expected[i][0]);
      EXPECT_EQ(figures->pairs[i].to, expected[i][1]);
      EXPECT_GT(figures->pairs[i].latency_us, 0);
      EXPECT_GT(figures->pairs[i].gb_per_s, 0);
    }
  });
}

TEST(LinkCheck, OneThatHasGoneEndsIt) {
  Transports transports = ConnectAll(3, 10);
  transports[2] = Unexpected(Internal("gone"));
  std::thread other([&] { EXPECT_FALSE(CheckLinks(transports[1]->get()).has_value()); });
  EXPECT_FALSE(CheckLinks(transports[0]->get()).has_value());
  other.join();
}

}  // namespace
}  // namespace tiercel::comm
