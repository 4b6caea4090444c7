#include "model/graph_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::model {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

CaptureOptions Limits(int64_t max_num_seqs, int64_t max_num_batched_tokens) {
  return {std::nullopt, std::nullopt, max_num_seqs, max_num_batched_tokens};
}

TEST(GraphModeTest, AnyCase) {
  EXPECT_EQ(*ParseGraphMode("full_decode_only"), GraphMode::kFullDecodeOnly);
  EXPECT_EQ(*ParseGraphMode("FULL"), GraphMode::kFullDecodeOnly);
  EXPECT_EQ(*ParseGraphMode("None"), GraphMode::kNone);
  EXPECT_EQ(*ParseGraphMode("PIECEWISE"), GraphMode::kNone);
  EXPECT_EQ(*ParseGraphMode("FULL_AND_PIECEWISE"), GraphMode::kFullDecodeOnly);
  EXPECT_THAT(ParseGraphMode("FAST").error().message(), HasSubstr("found \"FAST\""));
}

TEST(CaptureSizesTest, DefaultList) {
  EXPECT_THAT(*ResolveCaptureSizes(Limits(16, 2048)), ElementsAre(1, 2, 4, 8, 16, 24, 32));
  const auto large = *ResolveCaptureSizes(Limits(256, 8192));
  EXPECT_EQ(large.back(), 512);
  EXPECT_EQ(large.size(), 3u + 31u + 17u);
  EXPECT_THAT(large, Contains(256));
  EXPECT_THAT(large, Contains(272));
}

// The largest batch would otherwise run without a graph.
TEST(CaptureSizesTest, DefaultListHoldsTheLargestBatch) {
  for (const int64_t seqs : {12, 13, 20, 72, 129}) {
    EXPECT_THAT(*ResolveCaptureSizes(Limits(seqs, 8192)), Contains(seqs));
  }
}

TEST(CaptureSizesTest, DefaultListEndsAtTheTokenBudget) {
  EXPECT_EQ(ResolveCaptureSizes(Limits(256, 40))->back(), 40);
  EXPECT_THAT(*ResolveCaptureSizes(Limits(1, 1)), ElementsAre(1));
}

TEST(CaptureSizesTest, MaxSizeAlone) {
  CaptureOptions options = Limits(64, 8192);
  options.max_size = 10;
  EXPECT_THAT(*ResolveCaptureSizes(options), ElementsAre(1, 2, 4, 8, 10));
  options.max_size = 0;
  EXPECT_THAT(ResolveCaptureSizes(options).error().message(), HasSubstr("found 0"));
}

TEST(CaptureSizesTest, GivenListIsSortedWithoutDuplicates) {
  CaptureOptions options = Limits(256, 8192);
  options.sizes = {{64, 48, 72, 48, 80}};
  EXPECT_THAT(*ResolveCaptureSizes(options), ElementsAre(48, 64, 72, 80));
  options.sizes = {{1}};
  EXPECT_THAT(*ResolveCaptureSizes(options), ElementsAre(1));
}

TEST(CaptureSizesTest, SizesBeyondTheTokenBudgetAreDropped) {
  CaptureOptions options = Limits(256, 128);
  options.sizes = {{1, 128, 129, 1000000}};
  EXPECT_THAT(*ResolveCaptureSizes(options), ElementsAre(1, 128));
}

TEST(CaptureSizesTest, WrongListsAreErrors) {
  CaptureOptions options = Limits(256, 128);
  options.sizes.emplace();
  EXPECT_THAT(ResolveCaptureSizes(options).error().message(), HasSubstr("at least one"));
  options.sizes = {{1000}};
  EXPECT_THAT(ResolveCaptureSizes(options).error().message(), HasSubstr("at least one"));
  options.sizes = {{4, 0}};
  EXPECT_THAT(ResolveCaptureSizes(options).error().message(), HasSubstr("found 0"));
  options.sizes = {{-1}};
  EXPECT_THAT(ResolveCaptureSizes(options).error().message(), HasSubstr("found -1"));
}

// With FlashComm, of the list as it would be without.
TEST(CaptureSizesTest, MultiplesOfTheRanks) {
  CaptureOptions options = Limits(16, 2048);
  options.multiples_of = 4;
  EXPECT_THAT(*ResolveCaptureSizes(options), ElementsAre(4, 8, 16, 24, 32));
  options.sizes = {{1, 12, 16, 18}};
  options.max_size = 18;
  EXPECT_THAT(*ResolveCaptureSizes(options), ElementsAre(12, 16));
  options.sizes = {{3, 1}};
  options.max_size.reset();
  EXPECT_EQ(ResolveCaptureSizes(options).error().message(),
            "cudagraph_capture_sizes [1, 3] does not containvalues that are multiples of tp_size 4");
}

TEST(CaptureSizesTest, MaxSizeMustAgreeWithTheList) {
  CaptureOptions options = Limits(256, 8192);
  options.sizes = {{8, 16}};
  options.max_size = 16;
  EXPECT_TRUE(ResolveCaptureSizes(options).has_value());
  options.max_size = 32;
  EXPECT_EQ(ResolveCaptureSizes(options).error().message(),
            "customized max_cudagraph_capture_size(=32) should be consistent with the max value of "
            "cudagraph_capture_sizes(=16)");
}

TEST(GraphCacheTest, KeepsProgramsWhereTheyAre) {
  GraphCache cache;
  EXPECT_EQ(cache.Find(1), nullptr);
  EXPECT_EQ(cache.largest(), 0);
  const Program* two = cache.Add(2);
  for (int64_t size = 3; size < 100; ++size) cache.Add(size);
  EXPECT_EQ(cache.Find(2), two);
  EXPECT_EQ(cache.Find(1), nullptr);
  EXPECT_EQ(cache.Find(100), nullptr);
  EXPECT_EQ(cache.largest(), 99);
}

}  // namespace
}  // namespace tiercel::model
