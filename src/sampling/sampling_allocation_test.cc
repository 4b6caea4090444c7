// Choosing a token allocates nothing, from the sampler's first row on; reporting log-probabilities
// allocates their list alone.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <random>

#include "sampling/sampler.h"

namespace {
std::atomic<int64_t> num_allocations{0};
}  // namespace

void* operator new(size_t size) {
  ++num_allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace tiercel::sampling {
namespace {

constexpr int64_t kVocab = 20000;

std::vector<SamplingParams> Ways() {
  std::vector<SamplingParams> ways(1);
  const auto add = [&](float temperature, int top_k, float top_p, float min_p) {
    SamplingParams params;
    params.temperature = temperature;
    params.top_k = top_k;
    params.top_p = top_p;
    params.min_p = min_p;
    ways.push_back(params);
  };
  add(0, 0, 1, 0);
  add(1, 20, 0.95f, 0);
  add(1, 5000, 1, 0);
  add(0.1f, 0, 0.3f, 0);
  add(2, 0, 0.99f, 0);
  add(1, 0, 1, 0.01f);
  add(1, 0, 0.9f, 0.01f);
  SamplingParams processors;
  processors.allowed_token_ids = std::vector<int32_t>{1, 2, 3, 4, 5};
  processors.bad_words_token_ids = {{1}, {2, 3}, {4, 5, 2}};
  processors.logit_bias = {{7, 3.0f}};
  processors.repetition_penalty = 1.1f;
  processors.frequency_penalty = 0.5f;
  processors.min_tokens = 1000;
  processors.max_tokens = 1000;
  processors.stop_token_ids = {5};
  ways.push_back(processors);
  return ways;
}

TEST(SamplingAllocationTest, StepsAllocateNothing) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(kVocab);
  for (float& x : logits) x = normal(random);
  std::vector<float> equal(kVocab, 0.0f), masked(kVocab, -std::numeric_limits<float>::infinity());
  std::vector<float> infinite = logits;
  infinite[77] = std::numeric_limits<float>::infinity();
  std::vector<float> row(kVocab);
  for (const LogprobsMode mode :
       {LogprobsMode::kRawLogprobs, LogprobsMode::kProcessedLogprobs}) {
    for (const SamplingParams& way : Ways()) {
      for (const std::vector<float>* kind : {&logits, &equal, &masked, &infinite}) {
        for (const bool reports : {false, true}) {
          auto params = std::make_shared<SamplingParams>(way);
          if (reports) params->logprobs = 20;
          Sampler sampler(PortableVectorOps(), kVocab, mode);
          SequenceState state(
              std::make_shared<SamplingContext>(params, std::vector<int32_t>{1, 2, 3},
                                                std::vector<int32_t>{9}),
              1);
          SampledToken out;
          const int64_t before = num_allocations;
          for (int step = 0; step < 3; ++step) {
            std::copy(kind->begin(), kind->end(), row.begin());
            EXPECT_TRUE(sampler.Sample(row.data(), &state, &out).ok());
          }
          EXPECT_EQ(num_allocations - before, reports ? 1 : 0)
              << "top_k " << way.top_k << " top_p " << way.top_p << " min_p " << way.min_p;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tiercel::sampling
