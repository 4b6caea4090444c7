// Rows that hold no token to draw, NaN or infinities, through every way to choose a token and every
// mode of log-probabilities, by a sampler whose scratch memory is full of another request's row.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>

#include "parity/sampler_ops.h"
#include "sampling/sampler.h"

namespace tiercel::parity {
namespace {

using sampling::LogprobsMode;
using sampling::SampledToken;
using sampling::SamplingContext;
using sampling::SamplingParams;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();

struct Way {
  const char* name;
  SamplingParams params;
};

std::vector<Way> Ways() {
  std::vector<Way> ways;
  const auto add = [&](const char* name, float temperature, int top_k, float top_p, float min_p) {
    SamplingParams params;
    params.temperature = temperature;
    params.top_k = top_k;
    params.top_p = top_p;
    params.min_p = min_p;
    ways.push_back({name, params});
  };
  add("greedy", 0, 0, 1, 0);
  add("all", 1, 0, 1, 0);
  add("hot", 2, 0, 1, 0);
  add("cold", 0.01f, 0, 1, 0);
  add("top_k 1", 1, 1, 1, 0);
  add("top_k 3", 0.5f, 3, 1, 0);
  add("top_k above the vocabulary", 1, 1 << 30, 1, 0);
  add("top_k and top_p", 1, 3, 0.5f, 0);
  add("short nucleus", 1, 0, 0.01f, 0);
  add("nucleus", 1, 0, 0.5f, 0);
  add("long nucleus", 1, 0, 0.999f, 0);
  add("min_p", 1, 0, 1, 0.1f);
  add("min_p 1", 1, 0, 1, 1);
  add("min_p and top_p", 1, 0, 0.5f, 0.1f);
  add("min_p and top_k", 1, 3, 1, 0.1f);
  add("everything", 0.7f, 3, 0.5f, 0.1f);
  return ways;
}

// Rows of n tokens, the odd values at changing places.
std::vector<std::vector<float>> OddRows(size_t n) {
  std::vector<std::vector<float>> rows;
  std::mt19937 random(static_cast<uint32_t>(n));
  const auto normal = [&] { return static_cast<float>(random() % 256) / 32 - 4; };
  for (const float value : {-kInfinity, kNaN, kInfinity, kLargest, -kLargest, 0.0f}) {
    rows.emplace_back(n, value);
    for (const float rest : {-kInfinity, kNaN, -kLargest, 1.0f}) {
      std::vector<float> row(n, rest);
      row[random() % n] = value;
      rows.push_back(row);
      row[random() % n] = row[n - 1] = value;
      rows.push_back(row);
    }
  }
  for (int i = 0; i < 4; ++i) {
    std::vector<float> row(n);
    for (float& x : row) {
      const float odd[] = {kNaN, -kInfinity, i % 2 ? kInfinity : kNaN, i < 2 ? kLargest : 0.0f};
      x = random() % 2 ? normal() : odd[random() % 4];
    }
    rows.push_back(row);
  }
  return rows;
}

// What the sampler promises to read for a logit.
float Clean(float x) { return std::isnan(x) ? -kInfinity : std::min(x, kLargest); }

// The values that the filters leave, and which tokens they keep, straight from the definitions.
struct Expected {
  std::vector<float> values;  // reported, by token
  std::vector<bool> drawable;
};

Expected Expect(const std::vector<float>& row, const SamplingParams& p, LogprobsMode mode) {
  const size_t n = row.size();
  std::vector<size_t> order;
  std::vector<double> x;
  for (size_t i = 0; i < n; ++i) {
    x.push_back(Clean(row[i]));
    order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
  const double max = x[order[0]];
  Expected expected;
  expected.drawable.assign(n, false);
  if (max > -kInfinity && p.greedy()) {
    expected.drawable[order[0]] = true;
  } else if (max > -kInfinity) {
    const auto weight = [&](size_t i) { return std::exp((x[i] - max) / p.temperature); };
    size_t kept = n;
    while (weight(order[kept - 1]) < p.min_p) --kept;
    if (p.top_k > 0 && p.top_k < static_cast<int64_t>(kept)) {
      const double kth = x[order[static_cast<size_t>(p.top_k - 1)]];
      while (x[order[kept - 1]] < kth) --kept;
    }
    if (p.top_p < 1) {
      double total = 0, mass = 0;
      for (size_t i = 0; i < kept; ++i) total += weight(order[i]);
      for (size_t i = 0; i < kept; ++i) {
        mass += weight(order[i]);
        if (mass >= p.top_p * total) kept = i + 1;
      }
    }
    for (size_t i = 0; i < kept; ++i) expected.drawable[order[i]] = x[order[i]] > -kInfinity;
  } else {
    expected.drawable[0] = true;
  }
  const bool raw = mode == LogprobsMode::kRawLogits || mode == LogprobsMode::kRawLogprobs;
  if (!raw && !p.greedy()) {
    for (size_t i = 0; i < n; ++i) {
      x[i] = expected.drawable[i] ? std::clamp<double>(x[i] / p.temperature, -kLargest, kLargest)
                                  : -kInfinity;
      if (max == -kInfinity) x[i] = -kInfinity;
    }
  }
  double sum = 0;
  const double largest = *std::max_element(x.begin(), x.end());
  for (const double value : x) sum += std::exp(value - largest);
  const bool normalized =
      mode == LogprobsMode::kRawLogprobs || mode == LogprobsMode::kProcessedLogprobs;
  for (double value : x) {
    if (normalized && value > -kInfinity) value = value - largest - std::log(sum);
    expected.values.push_back(value == -kInfinity
                                  ? -kInfinity
                                  : static_cast<float>(std::max<double>(value, -kLargest)));
  }
  return expected;
}

void ExpectNear(float found, float expected) {
  if (std::isinf(expected)) {
    EXPECT_EQ(found, expected);
  } else {
    EXPECT_NEAR(found, expected, 1e-5f * std::max(1.0f, std::abs(expected)));
  }
}

void CheckTop(const std::vector<sampling::TokenLogprob>& top, int32_t token,
              const std::vector<float>& values) {
  const auto n = static_cast<int64_t>(values.size());
  ASSERT_EQ(static_cast<int64_t>(top.size()), n + 1);
  EXPECT_EQ(top[0].token, token);
  std::vector<bool> seen(values.size(), false);
  for (size_t i = 0; i < top.size(); ++i) {
    ASSERT_TRUE(top[i].token >= 0 && top[i].token < n);
    const auto id = static_cast<size_t>(top[i].token);
    ExpectNear(top[i].logprob, values[id]);
    if (i == 0) continue;
    EXPECT_FALSE(seen[id]);
    seen[id] = true;
    EXPECT_EQ(top[i].rank, static_cast<int64_t>(i));
    if (i > 1) {
      EXPECT_LE(top[i].logprob, top[i - 1].logprob);
    }
  }
}

class SamplerOddRows : public testing::TestWithParam<NamedOps> {};

TEST_P(SamplerOddRows, GiveWhatIsDefined) {
  constexpr LogprobsMode kModes[] = {LogprobsMode::kRawLogprobs, LogprobsMode::kRawLogits,
                                     LogprobsMode::kProcessedLogprobs,
                                     LogprobsMode::kProcessedLogits};
  for (const size_t n : {1u, 5u, 70u, 1300u}) {
    std::vector<float> other(n);
    for (size_t i = 0; i < n; ++i) other[i] = static_cast<float>(i % 7);
    const std::vector<std::vector<float>> rows = OddRows(n);
    for (const LogprobsMode mode : kModes) {
      sampling::Sampler sampler(GetParam().ops, static_cast<int64_t>(n), mode);
      const auto sample = [&](std::vector<float> row, SamplingParams params, uint64_t seed) {
        params.logprobs = -1;
        sampling::SequenceState state(
            std::make_shared<SamplingContext>(std::make_shared<SamplingParams>(params),
                                              std::vector<int32_t>{}, std::vector<int32_t>{}),
            seed);
        SampledToken out;
        sampler.Sample(row.data(), &state, &out);
        return out;
      };
      for (size_t r = 0; r < rows.size(); ++r) {
        for (const Way& way : Ways()) {
          SCOPED_TRACE(std::string(way.name) + " n " + std::to_string(n) + " row " +
                       std::to_string(r) + " mode " + std::to_string(static_cast<int>(mode)));
          sample(other, way.params, r);
          const SampledToken out = sample(rows[r], way.params, r);
          const Expected expected = Expect(rows[r], way.params, mode);
          ASSERT_TRUE(out.token >= 0 && out.token < static_cast<int32_t>(n));
          EXPECT_TRUE(expected.drawable[static_cast<size_t>(out.token)]) << out.token;
          CheckTop(out.top, out.token, expected.values);
          if (testing::Test::HasFailure()) return;
        }
        // A prompt's row is no other, but it is never processed.
        const bool is_normalized =
            mode == LogprobsMode::kRawLogprobs || mode == LogprobsMode::kProcessedLogprobs;
        const Expected raw =
            Expect(rows[r], SamplingParams{},
                   is_normalized ? LogprobsMode::kRawLogprobs : LogprobsMode::kRawLogits);
        std::vector<sampling::TokenLogprob> top;
        const auto next = static_cast<int32_t>(r % n);
        sampler.PromptLogprobs(rows[r].data(), next, -1, &top);
        CheckTop(top, next, raw.values);
      }
    }
  }
}

// A request whose processors leave nothing: the only allowed token must not come yet.
TEST_P(SamplerOddRows, NothingIsLeftByTheProcessors) {
  for (const LogprobsMode mode : {LogprobsMode::kProcessedLogprobs, LogprobsMode::kRawLogprobs}) {
    sampling::Sampler sampler(GetParam().ops, 100, mode);
    for (const Way& way : Ways()) {
      SamplingParams params = way.params;
      params.allowed_token_ids = std::vector<int32_t>{45};
      params.min_tokens = 1;
      params.logprobs = 1;
      sampling::SequenceState state(
          std::make_shared<SamplingContext>(std::make_shared<SamplingParams>(params),
                                            std::vector<int32_t>{}, std::vector<int32_t>{45}),
          1);
      std::vector<float> row(100, 0.0f);
      SampledToken out;
      sampler.Sample(row.data(), &state, &out);
      EXPECT_EQ(out.token, 0) << way.name;
      ASSERT_EQ(out.top.size(), 2u);
      const bool raw = mode == LogprobsMode::kRawLogprobs;
      ExpectNear(out.top[0].logprob, raw ? -std::log(100.0f) : -kInfinity);
      EXPECT_EQ(out.top[0].rank, 100);
      // The next token may be the allowed one, and is.
      std::fill(row.begin(), row.end(), 0.0f);
      sampler.Sample(row.data(), &state, &out);
      EXPECT_EQ(out.token, 45) << way.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, SamplerOddRows, testing::ValuesIn(AllSamplerOps()),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace tiercel::parity
