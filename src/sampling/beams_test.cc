#include "sampling/beams.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

namespace tiercel::sampling {
namespace {

constexpr int kVocabulary = 7;
constexpr int32_t kEnd = 3;

// A model whose next token depends on all tokens before it.
std::vector<TokenLogprob> Next(const std::vector<int32_t>& tokens, uint32_t seed) {
  for (const int32_t token : tokens) seed = seed * 1000003u + static_cast<uint32_t>(token) + 1;
  std::mt19937 random(seed);
  std::vector<TokenLogprob> next;
  double sum = 0;
  for (int32_t t = 0; t < kVocabulary; ++t) {
    const double weight = std::exp(std::normal_distribution<double>(0, 1.5)(random));
    next.push_back({t, static_cast<float>(weight), 0});
    sum += weight;
  }
  for (TokenLogprob& t : next) t.logprob = static_cast<float>(std::log(t.logprob / sum));
  std::stable_sort(next.begin(), next.end(),
                   [](const auto& a, const auto& b) { return a.logprob > b.logprob; });
  return next;
}

struct Found {
  std::vector<int32_t> tokens;
  double logprob = 0;
};

// vLLM's search as its documentation tells it: every beam to the last token, all that ended kept, and
// the best taken in the end.
std::vector<Found> Search(const BeamOptions& o, uint32_t seed) {
  const auto score = [&](const Found& f) {
    const bool ended = !f.tokens.empty() && f.tokens.back() == kEnd && !o.end_tokens.empty();
    const auto tokens = o.prompt_tokens + std::ssize(f.tokens) - (ended ? 1 : 0);
    return f.logprob / std::pow(static_cast<double>(tokens), o.length_penalty);
  };
  const auto better = [&](const Found& a, const Found& b) { return score(a) > score(b); };
  std::vector<Found> live(1), ended;
  for (int64_t step = 0; step < o.max_tokens; ++step) {
    std::vector<Found> grown;
    for (const Found& beam : live) {
      auto next = Next(beam.tokens, seed);
      next.resize(std::min(next.size(), static_cast<size_t>(2 * o.width)));
      for (const TokenLogprob& t : next) {
        Found f = beam;
        f.tokens.push_back(t.token);
        f.logprob += static_cast<double>(t.logprob);
        (t.token == kEnd && !o.end_tokens.empty() ? ended : grown).push_back(f);
      }
    }
    std::stable_sort(grown.begin(), grown.end(), better);
    grown.resize(std::min(grown.size(), static_cast<size_t>(o.width)));
    live = grown;
  }
  ended.insert(ended.end(), live.begin(), live.end());
  std::stable_sort(ended.begin(), ended.end(), better);
  ended.resize(std::min(ended.size(), static_cast<size_t>(o.width)));
  return ended;
}

TEST(BeamsTest, FindsWhatTheWholeSearchFinds) {
  int shortened = 0, ends = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    std::mt19937 random(seed);
    BeamOptions options;
    options.width = 1 + static_cast<int>(random() % 5);
    options.prompt_tokens = 1 + static_cast<int64_t>(random() % 4);
    options.max_tokens = 1 + static_cast<int64_t>(random() % 9);
    options.length_penalty = std::vector<double>{1, 0, 0.6, 2, -1}[random() % 5];
    if (random() % 4 != 0) options.end_tokens = {kEnd};
    options.logprobs = static_cast<int>(random() % 4) - 1;
    Beams beams(options);
    int64_t steps = 0;
    for (; !beams.done(); ++steps) {
      std::vector<std::vector<TokenLogprob>> next;
      for (int i = 0; i < beams.num_live(); ++i) next.push_back(Next(beams.LiveTokens(i), seed));
      beams.Grow(next);
    }
    shortened += steps < options.max_tokens;
    const std::vector<Found> expected = Search(options, seed);
    const std::vector<Beams::Answer> answers = beams.Take();
    ASSERT_EQ(answers.size(), expected.size()) << seed;
    for (size_t i = 0; i < answers.size(); ++i) {
      ASSERT_EQ(answers[i].tokens, expected[i].tokens) << seed;
      ends += answers[i].ended;
      EXPECT_EQ(answers[i].ended, !options.end_tokens.empty() && expected[i].tokens.back() == kEnd);
      // The log-probabilities are the model's after the tokens before.
      ASSERT_EQ(answers[i].top.size(), answers[i].tokens.size());
      for (size_t k = 0; k < answers[i].tokens.size(); ++k) {
        const std::vector<int32_t> before(answers[i].tokens.begin(),
                                          answers[i].tokens.begin() + static_cast<std::ptrdiff_t>(k));
        auto next = Next(before, seed);
        const auto& top = answers[i].top[k];
        EXPECT_EQ(top[0].token, answers[i].tokens[k]);
        if (*options.logprobs >= 0) next.resize(static_cast<size_t>(*options.logprobs));
        ASSERT_EQ(top.size(), next.size() + 1);
        for (size_t j = 0; j < next.size(); ++j) {
          EXPECT_EQ(top[j + 1].token, next[j].token);
          EXPECT_EQ(top[j + 1].logprob, next[j].logprob);
        }
      }
    }
  }
  EXPECT_GT(shortened, 40);  // nothing could get better any more
  EXPECT_GT(ends, 100);
}

}  // namespace
}  // namespace tiercel::sampling
