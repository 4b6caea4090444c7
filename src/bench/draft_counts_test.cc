#include "bench/draft_counts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::bench {
namespace {

using ::testing::ElementsAre;

TEST(DraftCounts, AreAddedUpOverEngines) {
  const auto counts = ReadDraftCounts(
      "# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.\n"
      "# TYPE vllm:spec_decode_num_drafts_total counter\n"
      "vllm:spec_decode_num_drafts_total{engine=\"0\",model_name=\"m\"} 3.0\n"
      "vllm:spec_decode_num_drafts_total{engine=\"1\",model_name=\"m\"} 1\n"
      "vllm:spec_decode_num_drafts_created{engine=\"1\",model_name=\"m\"} 1.7e9\n"
      "vllm:spec_decode_num_draft_tokens_total{engine=\"0\"} 20\n"
      "vllm:spec_decode_num_accepted_tokens_total{engine=\"0\"} 1e1\n"
      "vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"0\",position=\"1\"} 2\n"
      "vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"0\",engine=\"0\"} 3\n"
      "vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"0\",engine=\"1\"} 1");
  ASSERT_TRUE(counts.has_value());
  EXPECT_EQ(counts->drafts, 4);
  EXPECT_EQ(counts->draft_tokens, 20);
  EXPECT_EQ(counts->accepted_tokens, 10);
  EXPECT_THAT(counts->accepted_per_position, ElementsAre(4, 2));
  EXPECT_EQ(counts->AcceptanceRate(), 0.5);
  EXPECT_EQ(counts->AcceptanceLength(), 3.5);
  EXPECT_EQ(counts->RateAt(1), 0.5);
  const DraftCounts since = Since({1, 5, 2, {1}}, *counts);
  EXPECT_EQ(since.drafts, 3);
  EXPECT_EQ(since.draft_tokens, 15);
  EXPECT_EQ(since.accepted_tokens, 8);
  EXPECT_THAT(since.accepted_per_position, ElementsAre(3, 2));
}

TEST(DraftCounts, OtherTextHasNone) {
  EXPECT_FALSE(ReadDraftCounts("").has_value());
  EXPECT_FALSE(ReadDraftCounts("vllm:generation_tokens_total 3\n<html>\n\n{}").has_value());
  EXPECT_FALSE(ReadDraftCounts("vllm:spec_decode_num_drafts_total").has_value());
  EXPECT_FALSE(ReadDraftCounts("vllm:spec_decode_num_drafts_total many").has_value());
  EXPECT_FALSE(ReadDraftCounts("vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"99999999999\"} 1").has_value());
  EXPECT_EQ(DraftCounts().AcceptanceRate(), 0);
  EXPECT_EQ(DraftCounts().AcceptanceLength(), 0);
}

}  // namespace
}  // namespace tiercel::bench
