// The sampler against tests/data/sampling/goldens.json, whose values make_goldens.py computes from
// vLLM's documented rules: the order of the steps, ties, penalties, ranks and modes; and what is
// drawn, by the number of times.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "parity/sampler_ops.h"
#include "sampling/sampler.h"

namespace tiercel::parity {
namespace {

using Json = nlohmann::json;
using sampling::LogprobsMode;
using sampling::SampledToken;
using sampling::SamplingContext;
using sampling::SamplingParams;
using sampling::SequenceState;
using sampling::TokenLogprob;

constexpr std::pair<const char*, LogprobsMode> kModes[] = {
    {"raw_logits", LogprobsMode::kRawLogits},
    {"raw_logprobs", LogprobsMode::kRawLogprobs},
    {"processed_logits", LogprobsMode::kProcessedLogits},
    {"processed_logprobs", LogprobsMode::kProcessedLogprobs}};

const Json& Goldens() {
  static const Json goldens =
      Json::parse(std::ifstream(TIERCEL_TEST_DATA "/sampling/goldens.json"));
  return goldens;
}

SamplingParams ParamsOf(const Json& j) {
  SamplingParams p;
  p.temperature = j.value("temperature", p.temperature);
  p.top_p = j.value("top_p", p.top_p);
  p.top_k = j.value("top_k", p.top_k);
  p.min_p = j.value("min_p", p.min_p);
  p.repetition_penalty = j.value("repetition_penalty", p.repetition_penalty);
  p.presence_penalty = j.value("presence_penalty", p.presence_penalty);
  p.frequency_penalty = j.value("frequency_penalty", p.frequency_penalty);
  p.min_tokens = j.value("min_tokens", p.min_tokens);
  p.ignore_eos = j.value("ignore_eos", p.ignore_eos);
  p.stop_token_ids = j.value("stop_token_ids", p.stop_token_ids);
  p.bad_words_token_ids = j.value("bad_words", p.bad_words_token_ids);
  p.logit_bias = j.value("logit_bias", p.logit_bias);
  if (j.contains("allowed_token_ids")) {
    p.allowed_token_ids = j["allowed_token_ids"].get<std::vector<int32_t>>();
  }
  p.max_tokens = 1000;
  return p;
}

// The tokens that are expected to be drawn, with their probabilities.
std::map<int32_t, double> ProbabilitiesOf(const Json& golden) {
  std::map<int32_t, double> probabilities;
  for (const Json& pair : golden["probabilities"]) {
    probabilities[pair[0].get<int32_t>()] = pair[1].get<double>();
  }
  return probabilities;
}

class SamplerGoldens : public testing::TestWithParam<NamedOps> {
 protected:
  // The golden's request, of which the next token can be drawn with any seed.
  struct Request {
    Request(const Json& golden, std::optional<int> logprobs)
        : row(golden["logits"].get<std::vector<float>>()),
          output(golden["output"].get<std::vector<int32_t>>()) {
      auto params = std::make_shared<SamplingParams>(ParamsOf(golden["params"]));
      params->logprobs = logprobs;
      EXPECT_TRUE(params->Validate(static_cast<int64_t>(row.size()), -1).ok());
      context = std::make_shared<SamplingContext>(params,
                                                  golden["prompt"].get<std::vector<int32_t>>(),
                                                  golden["eos"].get<std::vector<int32_t>>());
    }

    SampledToken Next(sampling::Sampler* sampler, uint64_t seed) const {
      SequenceState state(context, seed);
      for (const int32_t token : output) state.Append(token);
      std::vector<float> logits = row;
      SampledToken out;
      sampler->Sample(logits.data(), &state, &out);
      return out;
    }

    std::shared_ptr<const SamplingContext> context;
    std::vector<float> row;
    std::vector<int32_t> output;
  };

  static void ExpectTop(const std::vector<TokenLogprob>& top, const Json& golden,
                        const std::string& mode) {
    const Json& values = golden[mode];
    ASSERT_EQ(top.size(), values.size() + 1);
    for (size_t i = 0; i < top.size(); ++i) {
      const auto id = static_cast<size_t>(top[i].token);
      ASSERT_LT(id, values.size());
      if (values[id].is_null()) {
        EXPECT_EQ(top[i].logprob, -std::numeric_limits<float>::infinity()) << "token " << id;
      } else {
        EXPECT_NEAR(top[i].logprob, values[id].get<double>(), 2e-6) << "token " << id;
      }
      if (i > 1) {
        EXPECT_LE(top[i].logprob, top[i - 1].logprob);
      }
      EXPECT_EQ(top[i].rank, i > 0 ? static_cast<int64_t>(i)
                                   : golden[mode + "_ranks"][id].get<int64_t>())
          << "token " << id;
    }
  }
};

TEST_P(SamplerGoldens, ValuesAndRanksInEveryMode) {
  for (const Json& golden : Goldens()) {
    if (!golden.contains("raw_logits")) continue;
    const auto vocab_size = static_cast<int64_t>(golden["logits"].size());
    for (const auto& [name, mode] : kModes) {
      SCOPED_TRACE(golden["name"].get<std::string>() + ": " + name);
      sampling::Sampler sampler(GetParam().ops, vocab_size, mode);
      const SampledToken out = Request(golden, -1).Next(&sampler, 3);
      EXPECT_TRUE(ProbabilitiesOf(golden).contains(out.token)) << out.token;
      EXPECT_EQ(out.top.at(0).token, out.token);
      ExpectTop(out.top, golden, name);
      // A prompt's rows are as in the raw modes.
      const std::vector<float> row = golden["logits"].get<std::vector<float>>();
      const bool is_normalized = std::string_view(name).ends_with("logprobs");
      for (int32_t token = 0; token < vocab_size; ++token) {
        std::vector<TokenLogprob> top;
        sampler.PromptLogprobs(row.data(), token, -1, &top);
        EXPECT_EQ(top.at(0).token, token);
        ExpectTop(top, golden, is_normalized ? "raw_logprobs" : "raw_logits");
      }
    }
  }
}

// The tokens that a processed row leaves are those with a probability, in long rows too.
TEST_P(SamplerGoldens, FiltersKeepWhatIsExpected) {
  for (const Json& golden : Goldens()) {
    if (ParamsOf(golden["params"]).greedy()) continue;
    SCOPED_TRACE(golden["name"].get<std::string>());
    sampling::Sampler sampler(GetParam().ops, static_cast<int64_t>(golden["logits"].size()),
                              LogprobsMode::kProcessedLogprobs);
    const std::map<int32_t, double> expected = ProbabilitiesOf(golden);
    size_t kept = 0;
    const std::vector<TokenLogprob> top = Request(golden, -1).Next(&sampler, 5).top;
    for (size_t i = 1; i < top.size(); ++i) {
      if (std::isinf(top[i].logprob)) continue;
      ++kept;
      ASSERT_TRUE(expected.contains(top[i].token)) << top[i].token;
      EXPECT_NEAR(std::exp(top[i].logprob), expected.at(top[i].token), 1e-6);
    }
    EXPECT_EQ(kept, expected.size());
  }
}

// Pearson's χ² over the tokens, rare ones together. The bound is the quantile of 1 − 10⁻⁶ (Wilson and
// Hilferty's cube, z = 4.75), and the seeds are fixed.
TEST_P(SamplerGoldens, DrawsFollowTheProbabilities) {
  constexpr int kDraws = 4000;
  for (const Json& golden : Goldens()) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    sampling::Sampler sampler(GetParam().ops, static_cast<int64_t>(golden["logits"].size()),
                              LogprobsMode::kRawLogprobs);
    const std::map<int32_t, double> expected = ProbabilitiesOf(golden);
    std::map<int32_t, int> seen;
    const Request request(golden, std::nullopt);
    for (uint64_t seed = 0; seed < kDraws; ++seed) ++seen[request.Next(&sampler, seed).token];
    double chi2 = 0, rare_expected = 0;
    int bins = 0, rare_seen = 0;
    const auto add = [&](double want, int found) {
      if (want > 0) chi2 += (found - want) * (found - want) / want;
      ++bins;
    };
    for (const auto& [token, probability] : expected) {
      const double want = kDraws * probability;
      const auto it = seen.find(token);
      const int found = it == seen.end() ? 0 : it->second;
      if (it != seen.end()) seen.erase(it);
      if (want >= 5) {
        add(want, found);
      } else {
        rare_expected += want;
        rare_seen += found;
      }
    }
    EXPECT_TRUE(seen.empty()) << "drew " << seen.begin()->first << ", which is masked";
    if (rare_expected > 0) add(rare_expected, rare_seen);
    const double df = bins - 1;
    const double root = df > 0 ? 1 - 2 / (9 * df) + 4.75 * std::sqrt(2 / (9 * df)) : 0;
    EXPECT_LE(chi2, df * root * root * root + 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, SamplerGoldens, testing::ValuesIn(AllSamplerOps()),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace tiercel::parity
