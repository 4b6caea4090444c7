#include "sampling/logits_processors.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>

namespace tiercel::sampling {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

std::vector<float> Apply(const SequenceState& state, std::vector<float> row) {
  std::vector<float> scratch;
  state.ApplyProcessors(row, &scratch);
  return row;
}

SequenceState MakeState(SamplingParams params, std::vector<int32_t> prompt,
                        std::vector<int32_t> output, std::vector<int32_t> eos = {9}) {
  SequenceState state(
      std::make_shared<SamplingContext>(std::make_shared<SamplingParams>(std::move(params)), prompt,
                                        eos),
      0);
  for (const int32_t token : output) state.Append(token);
  return state;
}

TEST(LogitsProcessorsTest, PenaltiesFollowTheirDefinitions) {
  SamplingParams params;
  params.repetition_penalty = 2;
  params.frequency_penalty = 0.5f;
  params.presence_penalty = 0.25f;
  // Token 1 only in the prompt, 2 twice in the output, 3 in both, 0 nowhere.
  const SequenceState state = MakeState(params, {1, 3, 1}, {2, 3, 2});
  EXPECT_EQ(Apply(state, {1, 4, 4, -4, 8}),
            (std::vector<float>{1, 2, 2 - 1.25f, -8 - 0.75f, 8}));
}

TEST(LogitsProcessorsTest, CountsEqualAMap) {
  std::mt19937 random(1);
  TokenCounts counts;
  std::map<int32_t, int> expected;
  for (int i = 0; i < 20000; ++i) {
    const int32_t token = static_cast<int32_t>(random() % 150000);
    EXPECT_EQ(counts.Contains(token), expected.contains(token));
    counts.Add(token);
    ++expected[token];
  }
  std::map<int32_t, int> found;
  counts.ForEach([&](const TokenCounts::Entry& e) { found[e.token] = e.count; });
  EXPECT_EQ(found, expected);
  EXPECT_EQ(counts.size(), static_cast<int64_t>(expected.size()));
}

TEST(LogitsProcessorsTest, BadWordsMaskTheLastTokenAfterTheirPrefix) {
  SamplingParams params;
  params.bad_words_token_ids = {{0}, {1, 2}, {1, 1, 3}};
  EXPECT_EQ(Apply(MakeState(params, {1, 1}, {}), {5, 5, 5, 5}),
            (std::vector<float>{kMasked, 5, 5, 5}));
  EXPECT_EQ(Apply(MakeState(params, {}, {1}), {5, 5, 5, 5}),
            (std::vector<float>{kMasked, 5, kMasked, 5}));
  EXPECT_EQ(Apply(MakeState(params, {}, {2, 1, 1}), {5, 5, 5, 5}),
            (std::vector<float>{kMasked, 5, kMasked, kMasked}));
  EXPECT_EQ(Apply(MakeState(params, {}, {1, 1, 2}), {5, 5, 5, 5}),
            (std::vector<float>{kMasked, 5, 5, 5}));
}

TEST(LogitsProcessorsTest, MinTokensMasksEveryEndingToken) {
  SamplingParams params;
  params.min_tokens = 2;
  params.stop_token_ids = {1};
  const std::vector<int32_t> eos = {2, 3};
  EXPECT_EQ(Apply(MakeState(params, {}, {0}, eos), {5, 5, 5, 5}),
            (std::vector<float>{5, kMasked, kMasked, kMasked}));
  EXPECT_EQ(Apply(MakeState(params, {}, {0, 0}, eos), {5, 5, 5, 5}),
            (std::vector<float>{5, 5, 5, 5}));
  params.ignore_eos = true;  // the sequence goes on behind an eos, but none comes before min_tokens
  EXPECT_EQ(Apply(MakeState(params, {}, {0}, eos), {5, 5, 5, 5}),
            (std::vector<float>{5, kMasked, kMasked, kMasked}));
}

TEST(LogitsProcessorsTest, AllowedTokensThenBias) {
  SamplingParams params;
  params.allowed_token_ids = std::vector<int32_t>{2, 0, 2};
  params.logit_bias = {{1, 100.0f}, {2, -1.0f}};
  EXPECT_EQ(Apply(MakeState(params, {}, {}), {5, 6, 7, 8}),
            (std::vector<float>{5, kMasked, 6, kMasked}));
}

TEST(LogitsProcessorsTest, PlainParametersChangeNothing) {
  EXPECT_FALSE(MakeState(SamplingParams{}, {1}, {2}).ChangesLogits());
}

}  // namespace
}  // namespace tiercel::sampling
