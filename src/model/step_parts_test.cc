#include "model/step_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tiercel::model {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

// Three sequences: 3 rows at 4 … 6, one decode at 9, 5 rows at 0 … 4.
struct Step {
  std::vector<int32_t> tokens{10, 11, 12, 20, 30, 31, 32, 33, 34};
  std::vector<int32_t> sampled{7};
  std::vector<int32_t> positions{4, 5, 6, 9, 0, 1, 2, 3, 4};
  std::vector<int32_t> query_start{0, 3, 4, 9};
  std::vector<int32_t> context_len{7, 10, 5};
  std::vector<int32_t> block_table{1, 2, 3, 4, 5, 6};
  std::vector<const int32_t*> block_tables{&block_table[0], &block_table[2], &block_table[4]};
  std::vector<int32_t> logit_rows{2, 3, 7, 8};

  StepBatch batch() const {
    return {.token_ids = tokens,
            .sampled = sampled,
            .positions = positions,
            .query_start = query_start,
            .context_len = context_len,
            .block_tables = block_tables,
            .logit_rows = logit_rows};
  }
};

TEST(StepPartsTest, AShortStepIsOnePart) {
  const Step step;
  const StepBatch batch = step.batch();
  StepParts parts(batch, 9);
  ASSERT_TRUE(parts.Next());
  EXPECT_THAT(parts.part().token_ids, ElementsAreArray(step.tokens));
  EXPECT_THAT(parts.part().query_start, ElementsAreArray(step.query_start));
  EXPECT_THAT(parts.part().context_len, ElementsAreArray(step.context_len));
  EXPECT_THAT(parts.part().block_tables, ElementsAreArray(step.block_tables));
  EXPECT_THAT(parts.part().logit_rows, ElementsAreArray(step.logit_rows));
  EXPECT_EQ(parts.first_logit_row(), 0);
  EXPECT_FALSE(parts.Next());
}

TEST(StepPartsTest, ASequenceGoesOnInTheNextPart) {
  const Step step;
  const StepBatch batch = step.batch();
  StepParts parts(batch, 2);

  ASSERT_TRUE(parts.Next());  // rows 0, 1 of the first sequence
  EXPECT_THAT(parts.part().token_ids, ElementsAre(10, 11));
  EXPECT_THAT(parts.part().query_start, ElementsAre(0, 2));
  EXPECT_THAT(parts.part().context_len, ElementsAre(6));
  EXPECT_THAT(parts.part().logit_rows, IsEmpty());

  ASSERT_TRUE(parts.Next());  // its last row, and the decode
  EXPECT_THAT(parts.part().positions, ElementsAre(6, 9));
  EXPECT_THAT(parts.part().query_start, ElementsAre(0, 1, 2));
  EXPECT_THAT(parts.part().context_len, ElementsAre(7, 10));
  EXPECT_THAT(parts.part().logit_rows, ElementsAre(0, 1));
  EXPECT_EQ(parts.first_logit_row(), 0);

  ASSERT_TRUE(parts.Next());  // the third sequence: its own row of the block table
  EXPECT_THAT(parts.part().query_start, ElementsAre(0, 2));
  EXPECT_THAT(parts.part().context_len, ElementsAre(2));
  EXPECT_THAT(parts.part().block_tables, ElementsAre(&step.block_table[4]));
  EXPECT_THAT(parts.part().logit_rows, IsEmpty());

  ASSERT_TRUE(parts.Next());
  EXPECT_THAT(parts.part().context_len, ElementsAre(4));
  EXPECT_THAT(parts.part().logit_rows, ElementsAre(1));
  EXPECT_EQ(parts.first_logit_row(), 2);

  ASSERT_TRUE(parts.Next());
  EXPECT_THAT(parts.part().token_ids, ElementsAre(34));
  EXPECT_THAT(parts.part().context_len, ElementsAre(5));
  EXPECT_THAT(parts.part().logit_rows, ElementsAre(0));
  EXPECT_EQ(parts.first_logit_row(), 3);
  EXPECT_FALSE(parts.Next());
}

TEST(StepPartsTest, EveryRowAndEveryLogitIsInOnePart) {
  const Step step;
  const StepBatch batch = step.batch();
  for (int64_t max_rows = 1; max_rows <= 10; ++max_rows) {
    StepParts parts(batch, max_rows);
    std::vector<int32_t> tokens, logit_tokens;
    while (parts.Next()) {
      const StepBatch& part = parts.part();
      EXPECT_LE(std::ssize(part.token_ids), max_rows);
      EXPECT_EQ(parts.first_logit_row(), std::ssize(logit_tokens));
      tokens.insert(tokens.end(), part.token_ids.begin(), part.token_ids.end());
      for (const int32_t row : part.logit_rows) logit_tokens.push_back(part.token_ids[row]);
      for (size_t s = 0; s < part.context_len.size(); ++s) {
        EXPECT_EQ(part.context_len[s], part.positions[part.query_start[s + 1] - 1] + 1);
      }
    }
    EXPECT_EQ(tokens, step.tokens) << max_rows;
    EXPECT_THAT(logit_tokens, ElementsAre(12, 20, 33, 34)) << max_rows;
  }
}

}  // namespace
}  // namespace tiercel::model
