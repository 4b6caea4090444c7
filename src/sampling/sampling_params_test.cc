#include "sampling/sampling_params.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace tiercel::sampling {
namespace {

struct BadCase {
  std::function<void(SamplingParams*)> set;
  std::string message;
  std::string param;
};

TEST(SamplingParamsTest, RefusesWithTheExpectedMessage) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<BadCase> cases = {
      {[](auto* p) { p->n = 0; }, "n must be at least 1, got 0.", "n"},
      {[](auto* p) { p->n = 16385; }, "n must be at most 16384, got 16385.", "n"},
      {[](auto* p) { p->presence_penalty = 2.5f; },
       "presence_penalty must be in [-2, 2], got 2.5.", "presence_penalty"},
      {[](auto* p) { p->frequency_penalty = -3; },
       "frequency_penalty must be in [-2, 2], got -3.0.", "frequency_penalty"},
      {[](auto* p) { p->repetition_penalty = 0; },
       "repetition_penalty must be greater than zero, got 0.0.", "repetition_penalty"},
      {[](auto* p) { p->temperature = -0.1f; }, "temperature must be non-negative, got -0.1.",
       "temperature"},
      {[](auto* p) { p->temperature = 2.1f; }, "temperature must be in [0, 2], got 2.1.",
       "temperature"},
      {[=](auto* p) { p->temperature = nan; }, "temperature must be non-negative, got nan.",
       "temperature"},
      {[](auto* p) { p->top_p = 0; }, "top_p must be in (0, 1], got 0.0.", "top_p"},
      {[](auto* p) { p->top_k = -2; }, "top_k must be 0 (disable), or at least 1, got -2.",
       "top_k"},
      {[](auto* p) { p->min_p = 1.5f; }, "min_p must be in [0, 1], got 1.5.", "min_p"},
      {[](auto* p) { p->max_tokens = 0; }, "max_tokens must be at least 1, got 0.", "max_tokens"},
      {[](auto* p) { p->min_tokens = -1; },
       "min_tokens must be greater than or equal to 0, got -1.", "min_tokens"},
      {[](auto* p) { p->min_tokens = 17; },
       "min_tokens must be less than or equal to max_tokens=16, got 17.", "min_tokens"},
      {[](auto* p) { p->stop = {"a", ""}; }, "stop cannot contain an empty string.", "stop"},
      {[](auto* p) {
         p->temperature = 0;
         p->n = 2;
       },
       "n must be 1 when using greedy sampling, got 2.", "n"},
      {[](auto* p) { p->logprobs = 21; },
       "Requested sample logprobs of 21, which is greater than max allowed: 20", "logprobs"},
      {[](auto* p) { p->logprobs = -1; },
       "Requested sample logprobs of 100, which is greater than max allowed: 20", "logprobs"},
      {[](auto* p) { p->prompt_logprobs = 21; },
       "Requested prompt logprobs of 21, which is greater than max allowed: 20",
       "prompt_logprobs"},
      {[](auto* p) { p->logprobs = -2; }, "`logprobs` must be a positive value or -1.",
       "logprobs"},
      {[](auto* p) {
         p->logit_bias = {{100, 1.0f}, {5, 1.0f}, {-1, 1.0f}};
       },
       "token_id(s) [100, -1] in logit_bias contain out-of-vocab token ids. Vocabulary size: 100",
       "logit_bias"},
      {[](auto* p) { p->stop_token_ids = {100}; },
       "token_id(s) [100] in stop_token_ids contain out-of-vocab token ids. Vocabulary size: 100",
       "stop_token_ids"},
      {[](auto* p) { p->allowed_token_ids = std::vector<int32_t>{}; },
       "allowed_token_ids is not None and empty!", "allowed_token_ids"},
      {[](auto* p) { p->allowed_token_ids = std::vector<int32_t>{100}; },
       "allowed_token_ids contains out-of-vocab token id!", "allowed_token_ids"},
      {[](auto* p) { p->bad_words_token_ids = {{3, 1000}}; },
       "token_id(s) [1000] in bad_words contain out-of-vocab token ids. Vocabulary size: 100",
       "bad_words"},
  };
  for (const BadCase& c : cases) {
    SamplingParams params;
    c.set(&params);
    const Status status = params.Validate(100, 20);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << c.message;
    EXPECT_EQ(status.message(), c.message);
    EXPECT_EQ(status.param(), c.param) << c.message;
  }
}

TEST(SamplingParamsTest, AcceptsTheDefaultsAndTheEdges) {
  SamplingParams params;
  EXPECT_TRUE(params.Validate(100, 20).ok());
  params.top_k = -1;
  params.logprobs = 20;
  params.presence_penalty = -2;
  params.min_p = 1;
  EXPECT_TRUE(params.Validate(100, 20).ok());
  params.logprobs = -1;
  EXPECT_TRUE(params.Validate(100, -1).ok());
}

TEST(SamplingParamsTest, NormalizesGreedyAndVeryLowTemperatures) {
  SamplingParams params;
  params.temperature = 1e-6f;
  params.top_p = 0.5f;
  params.top_k = 7;
  params.min_p = 0.1f;
  ASSERT_TRUE(params.Validate(100, 20).ok());
  EXPECT_TRUE(params.greedy());
  EXPECT_EQ(params.temperature, 0);
  EXPECT_EQ(params.top_p, 1);
  EXPECT_EQ(params.top_k, 0);
  EXPECT_EQ(params.min_p, 0);
  params.temperature = 0.005f;
  ASSERT_TRUE(params.Validate(100, 20).ok());
  EXPECT_EQ(params.temperature, 0.01f);
}

}  // namespace
}  // namespace tiercel::sampling
