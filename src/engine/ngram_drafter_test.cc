#include "engine/ngram_drafter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace tiercel::engine {
namespace {

using Tokens = std::vector<int32_t>;

Tokens Guess(const DraftOptions& options, const Tokens& prompt, const Tokens& output, int64_t most) {
  NgramDrafter drafter(options, 1000);
  Tokens drafts = {99};
  drafter.Guess(prompt, output, most, &drafts);
  return drafts;
}

constexpr DraftOptions kTwoToThree = {.num_tokens = 4, .lookup_min = 2, .lookup_max = 3};

TEST(NgramDrafterTest, WhatFollowedTheLastTokensBefore) {
  EXPECT_EQ(Guess(kTwoToThree, {1, 2, 3, 4, 5, 6, 7, 2, 3}, {}, 4), (Tokens{4, 5, 6, 7}));
  EXPECT_EQ(Guess(kTwoToThree, {1, 2, 3, 4, 5, 6, 7, 2, 3}, {}, 2), (Tokens{4, 5}));
  // Across the border of prompt and output.
  EXPECT_EQ(Guess(kTwoToThree, {1, 2}, {3, 4, 5, 2, 3}, 2), (Tokens{4, 5}));
}

TEST(NgramDrafterTest, NothingWhereNothingStoodBefore) {
  EXPECT_EQ(Guess(kTwoToThree, {1, 2, 3, 4}, {5, 6}, 4), Tokens{});
  EXPECT_EQ(Guess(kTwoToThree, {6, 2, 3, 4}, {5, 6}, 4), Tokens{});  // a run of one
  EXPECT_EQ(Guess(kTwoToThree, {1}, {}, 4), Tokens{});
  EXPECT_EQ(Guess(kTwoToThree, {1, 2, 3, 1, 2}, {}, 0), Tokens{});
}

TEST(NgramDrafterTest, TheLongestRunThenTheLatest) {
  // [1 2 3] → 7 is longer than the later [2 3] → 8.
  EXPECT_EQ(Guess(kTwoToThree, {1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3}, {}, 1), Tokens{7});
  // Of [2 3] → 7 and [2 3] → 8 the latter.
  EXPECT_EQ(Guess(kTwoToThree, {2, 3, 7, 2, 3, 8, 1, 2, 3}, {}, 1), Tokens{8});
  // No more than three count: 4 is the earlier one of four.
  EXPECT_EQ(Guess(kTwoToThree, {6, 1, 2, 3, 4, 0, 1, 2, 3, 5, 6, 1, 2, 3}, {}, 1), Tokens{5});
}

TEST(NgramDrafterTest, WhatStandsAtTheEndGoesOnAsItRepeats) {
  EXPECT_EQ(Guess(kTwoToThree, {5, 5, 5}, {}, 4), (Tokens{5, 5, 5, 5}));
  EXPECT_EQ(Guess(kTwoToThree, {1, 2, 1, 2}, {1}, 4), (Tokens{2, 1, 2, 1}));
}

// Against the definition: of all places the longest run, then the latest.
TEST(NgramDrafterTest, RandomTokensGiveWhatTheDefinitionSays) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const int64_t min = 1 + random() % 4;
    const DraftOptions options = {.num_tokens = 8, .lookup_min = min, .lookup_max = min + static_cast<int64_t>(random() % 3)};
    Tokens tokens;
    for (uint32_t i = 0, n = 1 + random() % 60; i < n; ++i) tokens.push_back(static_cast<int32_t>(random() % 3));
    const int64_t size = std::ssize(tokens);
    int64_t best = 0, next = -1;
    for (int64_t end = 1; end < size; ++end) {
      int64_t length = 0;
      while (length < std::min(options.lookup_max, end) &&
             tokens[static_cast<size_t>(end - 1 - length)] == tokens[static_cast<size_t>(size - 1 - length)]) {
        ++length;
      }
      if (length >= options.lookup_min && length >= best) best = length, next = end;
    }
    Tokens expected;
    Tokens all = tokens;
    for (int64_t i = 0; next >= 0 && i < 8; ++i) {
      expected.push_back(all[static_cast<size_t>(next + i)]);
      all.push_back(expected.back());
    }
    const auto cut = tokens.begin() + static_cast<std::ptrdiff_t>(random() % tokens.size());
    ASSERT_EQ(Guess(options, Tokens(tokens.begin(), cut), Tokens(cut, tokens.end()), 8), expected)
        << testing::PrintToString(tokens) << " from " << min;
  }
}

}  // namespace
}  // namespace tiercel::engine
