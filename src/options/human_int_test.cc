#include "options/human_int.h"

#include <gtest/gtest.h>

namespace tiercel::options {
namespace {

TEST(HumanInt, SuffixesAreVllms) {
  EXPECT_EQ(ParseHumanInt("4096").value(), 4096);
  EXPECT_EQ(ParseHumanInt("1k").value(), 1000);
  EXPECT_EQ(ParseHumanInt("1K").value(), 1024);
  EXPECT_EQ(ParseHumanInt("2.5k").value(), 2500);
  EXPECT_EQ(ParseHumanInt("3m").value(), 3'000'000);
  EXPECT_EQ(ParseHumanInt("3M").value(), 3 << 20);
  EXPECT_EQ(ParseHumanInt("1g").value(), 1'000'000'000);
  EXPECT_EQ(ParseHumanInt("1G").value(), 1 << 30);
  EXPECT_EQ(ParseHumanInt("2T").value(), int64_t{2} << 40);
  EXPECT_EQ(ParseHumanInt("-1").value(), -1);
}

TEST(HumanInt, ErrorsShowTheText) {
  EXPECT_EQ(ParseHumanInt("2.5K").error().message(),
            "Decimals are not allowed with binary suffixes like K. Did you mean to use 2.5k "
            "instead?");
  for (const char* text : {"", "k", "1x", "1.5", "0x10", "1kk", "--1", "1 k", "99999999999t"}) {
    EXPECT_FALSE(ParseHumanInt(text)) << text;
  }
  EXPECT_EQ(ParseInt("12a").error().message(), "invalid int value: '12a'");
  EXPECT_FALSE(ParseFloat("nan"));
  EXPECT_FALSE(ParseFloat("1e999"));
}

}  // namespace
}  // namespace tiercel::options
