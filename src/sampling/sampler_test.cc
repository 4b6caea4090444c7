#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "sampling/random.h"

namespace tiercel::sampling {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

std::vector<float> RandomRow(int64_t n, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row(static_cast<size_t>(n));
  for (float& x : row) x = normal(random);
  return row;
}

std::vector<Candidate> Sorted(const std::vector<float>& row) {
  std::vector<Candidate> all;
  for (size_t i = 0; i < row.size(); ++i) all.push_back({row[i], static_cast<int32_t>(i)});
  std::sort(all.begin(), all.end(), Precedes);
  return all;
}

// The tokens that a plain implementation keeps: min_p, then top_k, then top_p over what is left.
std::vector<int32_t> ReferenceKept(const std::vector<float>& row, const SamplingParams& p) {
  std::vector<Candidate> all = Sorted(row);
  const double max = all[0].logit, t = p.temperature;
  std::erase_if(all, [&](const Candidate& c) {
    return p.min_p > 0 && c.logit < max + t * std::log(p.min_p);
  });
  if (p.top_k > 0 && p.top_k < static_cast<int>(all.size())) {
    const float kth = all[static_cast<size_t>(p.top_k - 1)].logit;
    std::erase_if(all, [kth](const Candidate& c) { return c.logit < kth; });
  }
  double total = 0, mass = 0;
  for (const Candidate& c : all) total += std::exp((c.logit - max) / t);
  std::vector<int32_t> kept;
  for (const Candidate& c : all) {
    kept.push_back(c.id);
    mass += std::exp((c.logit - max) / t);
    if (p.top_p < 1 && mass >= p.top_p * total) break;
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

SampledToken SampleOnce(Sampler* sampler, std::vector<float> row, const SamplingParams& params,
                        uint64_t seed = 0, int position = 0) {
  SequenceState state(
      std::make_shared<SamplingContext>(std::make_shared<SamplingParams>(params),
                                        std::span<const int32_t>{}, std::span<const int32_t>{}),
      seed);
  for (int i = 0; i < position; ++i) state.Append(0);
  SampledToken out;
  EXPECT_EQ(sampler->Sample(row.data(), &state, &out), OkStatus());
  return out;
}

// The kept set as processed log-probabilities show it.
std::vector<int32_t> Kept(const std::vector<float>& row, SamplingParams params) {
  Sampler sampler(PortableVectorOps(), static_cast<int64_t>(row.size()),
                  LogprobsMode::kProcessedLogprobs);
  params.logprobs = -1;
  const SampledToken out = SampleOnce(&sampler, row, params);
  std::vector<int32_t> kept;
  for (size_t i = 1; i < out.top.size(); ++i) {
    if (out.top[i].logprob > kMinusInfinity) kept.push_back(out.top[i].token);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

TEST(SamplerTest, FiltersEqualASortedReference) {
  std::mt19937 random(3);
  for (int round = 0; round < 150; ++round) {
    const int64_t n = 1 + static_cast<int64_t>(random() % 5000);
    // From peaked rows to nearly flat ones: the nucleus is a few tokens, or thousands.
    const float spread = std::vector<float>{0.1f, 1.0f, 4.0f}[random() % 3];
    const std::vector<float> row = RandomRow(n, spread, random());
    SamplingParams params;
    params.temperature = 0.1f + static_cast<float>(random() % 15) / 10;
    if (random() % 2) params.top_k = 1 + static_cast<int>(random() % 2000);
    if (random() % 2) params.top_p = 0.05f + static_cast<float>(random() % 90) / 100;
    if (random() % 3 == 0) params.min_p = static_cast<float>(random() % 100) / 100;
    ASSERT_EQ(Kept(row, params), ReferenceKept(row, params))
        << "n=" << n << " spread=" << spread << " t=" << params.temperature
        << " k=" << params.top_k << " p=" << params.top_p << " min_p=" << params.min_p;
  }
}

TEST(SamplerTest, TiesSurviveTopKAndClustersAreFound) {
  SamplingParams params;
  params.top_k = 5;
  const std::vector<float> equal(1000, 1.0f);
  EXPECT_EQ(Kept(equal, params).size(), 1000u);
  std::vector<float> ties(1000, 1.0f);
  for (const size_t i : {7u, 300u, 301u, 640u, 999u}) ties[i] = i == 640 ? 3.0f : 2.0f;
  params.top_k = 3;  // 640, and two of the four that tie for the next places
  EXPECT_EQ(Kept(ties, params), (std::vector<int32_t>{7, 300, 301, 640, 999}));
  params.top_p = 0.5f;  // e/(e + 4) of the mass is below it, (e + 1)/(e + 4) is not
  EXPECT_EQ(Kept(ties, params), (std::vector<int32_t>{7, 640}));
  params = SamplingParams{};
  params.top_k = 5;
  // All large logits in one chunk.
  std::vector<float> clustered(4096, 0.0f);
  for (int i = 0; i < 64; ++i) clustered[static_cast<size_t>(128 + i)] = 10 + static_cast<float>(i);
  EXPECT_EQ(Kept(clustered, params), (std::vector<int32_t>{187, 188, 189, 190, 191}));
  SamplingParams nucleus;
  nucleus.top_p = 0.5f;
  EXPECT_EQ(Kept(equal, nucleus).size(), 500u);
}

TEST(SamplerTest, FrequenciesFollowTheDistribution) {
  const std::vector<float> row = {0.0f, 1.0f, 2.0f, -1.0f, kMinusInfinity, 0.5f};
  for (const float top_p : {1.0f, 0.9f}) {
    SamplingParams params;
    params.temperature = 0.8f;
    params.top_p = top_p;
    const std::vector<int32_t> kept = ReferenceKept(row, params);
    double total = 0;
    for (const int32_t id : kept) total += std::exp(row[static_cast<size_t>(id)] / 0.8);
    Sampler sampler(PortableVectorOps(), 6, LogprobsMode::kRawLogprobs);
    std::map<int32_t, int> seen;
    constexpr int kDraws = 20000;
    for (int i = 0; i < kDraws; ++i) {
      ++seen[SampleOnce(&sampler, row, params, static_cast<uint64_t>(i)).token];
    }
    double chi2 = 0;
    int found = 0;
    for (const int32_t id : kept) {
      const double expected = kDraws * std::exp(row[static_cast<size_t>(id)] / 0.8) / total;
      if (expected == 0) continue;
      chi2 += (seen[id] - expected) * (seen[id] - expected) / expected;
      found += seen[id];
    }
    EXPECT_EQ(found, kDraws);  // nothing outside the kept set
    EXPECT_LT(chi2, 20.5);     // 5 degrees of freedom at most, p = 0.001
  }
}

TEST(SamplerTest, SameSeedAndPositionGiveTheSameToken) {
  const std::vector<float> row = RandomRow(3000, 1, 5);
  Sampler a(PortableVectorOps(), 3000, LogprobsMode::kRawLogprobs);
  Sampler b(PortableVectorOps(), 3000, LogprobsMode::kRawLogprobs);
  SamplingParams params;
  std::map<int32_t, int> tokens;
  for (int position = 0; position < 20; ++position) {
    const int32_t token = SampleOnce(&a, row, params, 42, position).token;
    SampleOnce(&b, row, params, 7, position);  // another request's draw changes nothing
    EXPECT_EQ(SampleOnce(&b, row, params, 42, position).token, token);
    ++tokens[token];
  }
  EXPECT_GT(tokens.size(), 10u);  // positions are independent
}

TEST(SamplerTest, GreedyTakesTheFirstMaximumAndSurvivesOddRows) {
  Sampler sampler(PortableVectorOps(), 4, LogprobsMode::kRawLogprobs);
  SamplingParams greedy;
  greedy.temperature = 0;
  EXPECT_EQ(SampleOnce(&sampler, {1, 3, 3, 2}, greedy).token, 1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(SampleOnce(&sampler, {nan, 1, nan, 2}, greedy).token, 3);
  for (const float value : {nan, kMinusInfinity}) {
    for (int kind = 0; kind < 4; ++kind) {
      SamplingParams params;
      params.logprobs = 2;
      if (kind == 1) params.top_k = 2;
      if (kind == 2) params.top_p = 0.5f;
      if (kind == 3) params.min_p = 0.5f;
      const int32_t token = SampleOnce(&sampler, {value, value, value, value}, params).token;
      EXPECT_TRUE(token >= 0 && token < 4);
    }
  }
}

TEST(SamplerTest, LogprobsAreThoseBeforeTheProcessors) {
  const std::vector<float> row = {1, 2, 3, 0};
  double sum = 0;
  for (const float x : row) sum += std::exp(x);
  SamplingParams params;
  params.temperature = 0;
  params.logit_bias = {{0, 100.0f}};
  params.logprobs = 2;
  Sampler raw(PortableVectorOps(), 4, LogprobsMode::kRawLogprobs);
  const SampledToken out = SampleOnce(&raw, row, params);
  EXPECT_EQ(out.token, 0);
  ASSERT_EQ(out.top.size(), 3u);
  EXPECT_EQ(out.top[0].token, 0);
  EXPECT_EQ(out.top[0].rank, 3);
  EXPECT_NEAR(out.top[0].logprob, 1 - std::log(sum), 1e-5);
  EXPECT_EQ(out.top[1].token, 2);
  EXPECT_EQ(out.top[1].rank, 1);
  EXPECT_EQ(out.top[2].token, 1);
  EXPECT_NEAR(out.top[2].logprob, 2 - std::log(sum), 1e-5);

  Sampler logits(PortableVectorOps(), 4, LogprobsMode::kRawLogits);
  EXPECT_EQ(SampleOnce(&logits, row, params).top[1].logprob, 3);
  Sampler processed(PortableVectorOps(), 4, LogprobsMode::kProcessedLogits);
  EXPECT_EQ(SampleOnce(&processed, row, params).top[0].logprob, 101);
  params.temperature = 0.5f;
  EXPECT_EQ(SampleOnce(&processed, row, params).top[0].logprob, 202);
}

TEST(SamplerTest, MaskedTokensHaveMinusInfinityAndAllLogprobsAreBoundedByTheVocabulary) {
  Sampler sampler(PortableVectorOps(), 3, LogprobsMode::kRawLogprobs);
  SamplingParams params;
  params.temperature = 0;
  params.logprobs = 0;
  EXPECT_EQ(SampleOnce(&sampler, {1, 2, 3}, params).top.size(), 1u);
  params.logprobs = -1;
  const SampledToken out = SampleOnce(&sampler, {1, kMinusInfinity, 3}, params);
  ASSERT_EQ(out.top.size(), 4u);
  EXPECT_EQ(out.top[3].token, 1);
  EXPECT_EQ(out.top[3].logprob, kMinusInfinity);
  std::vector<TokenLogprob> prompt;
  const std::vector<float> row = {1, 2, 3};
  sampler.PromptLogprobs(row.data(), 1, 1, &prompt);
  ASSERT_EQ(prompt.size(), 2u);
  EXPECT_EQ(prompt[0].rank, 2);
  EXPECT_EQ(prompt[1].token, 2);
}

TEST(RandomTest, PhiloxEqualsThePublishedVectors) {
  // Known-answer tests of the Random123 distribution.
  EXPECT_EQ(Philox4x32(0, 0, 0),
            (std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(Philox4x32(~0ull, ~0ull, ~0ull),
            (std::array<uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  for (uint64_t i = 0; i < 1000; ++i) {
    const double u = UniformAt(i, i);
    EXPECT_TRUE(u >= 0 && u < 1);
  }
}

// Allows tokens by a list of masks, one a token, then nothing but token 9; fails at the end of the list
// if it is told to.
class Scripted : public TokenConstraint {
 public:
  Scripted(std::vector<uint32_t> masks, bool fails) : masks_(std::move(masks)), fails_(fails) {}
  Expected<std::span<const uint32_t>> Allowed() override {
    if (!ended()) return std::span<const uint32_t>(&masks_[at_], masks_[at_] == 0 ? 0 : 1);
    if (fails_) return Unexpected(InvalidArgument("too complex"));
    return std::span<const uint32_t>(&end_, 1);
  }
  Status Append(int32_t) override {
    ++at_;
    return OkStatus();
  }
  bool ended() const override { return at_ >= masks_.size(); }

 private:
  const std::vector<uint32_t> masks_;
  const bool fails_;
  const uint32_t end_ = 1 << 9;
  size_t at_ = 0;
};

struct ScriptedSource : TokenConstraintSource {
  ScriptedSource(std::vector<uint32_t> m, bool f) : masks(std::move(m)), fails(f) {}
  std::unique_ptr<TokenConstraint> Start() const override {
    return std::make_unique<Scripted>(masks, fails);
  }
  std::vector<uint32_t> masks;
  bool fails;
};

// A row of 20 tokens, of which later ones are likelier; token 9 ends.
TEST(SamplerTest, ConstraintsMaskBeforeEverythingElse) {
  SamplingParams params;
  params.temperature = 0;
  params.min_tokens = 5;
  params.logprobs = 2;
  params.logit_bias = {{3, 100}};
  params.constraint = std::make_shared<ScriptedSource>(std::vector<uint32_t>{0b110, 0}, false);
  const std::vector<int32_t> eos = {9};
  SequenceState state(
      std::make_shared<SamplingContext>(std::make_shared<SamplingParams>(params), std::vector<int32_t>{}, eos), 0);
  Sampler sampler(PortableVectorOps(), 20, LogprobsMode::kRawLogprobs);
  const auto sample = [&] {
    std::vector<float> row(20);
    for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i);
    SampledToken out;
    EXPECT_EQ(sampler.Sample(row.data(), &state, &out), OkStatus());
    return out;
  };
  const SampledToken first = sample();
  EXPECT_EQ(first.token, 2);  // no bias brings 3 back
  // Reported is what is left: e²/(e¹ + e²), and nothing else but 1.
  ASSERT_EQ(first.top.size(), 3u);
  EXPECT_NEAR(first.top[0].logprob, -0.313262f, 1e-5f);
  EXPECT_EQ(first.top[2].token, 1);
  EXPECT_EQ(sample().token, 3);  // no words: any token, and the bias holds
  EXPECT_EQ(sample().token, 9);  // min_tokens yields where nothing but the end may come
}

TEST(SamplerTest, AConstraintThatFailsFailsTheSample) {
  SamplingParams params;
  params.constraint = std::make_shared<ScriptedSource>(std::vector<uint32_t>{0b110}, true);
  SequenceState state(std::make_shared<SamplingContext>(std::make_shared<SamplingParams>(params),
                                                        std::vector<int32_t>{}, std::vector<int32_t>{9}),
                      0);
  Sampler sampler(PortableVectorOps(), 20, LogprobsMode::kRawLogprobs);
  std::vector<float> row(20, 1.0f);
  SampledToken out;
  EXPECT_EQ(sampler.Sample(row.data(), &state, &out), OkStatus());
  EXPECT_EQ(sampler.Sample(row.data(), &state, &out).message(), "too complex");
}

}  // namespace
}  // namespace tiercel::sampling
