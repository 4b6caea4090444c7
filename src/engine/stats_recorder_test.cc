#include "engine/stats_recorder.h"

#include <gtest/gtest.h>

#include <optional>

#include "base/clock.h"

namespace tiercel::engine {
namespace {

TEST(StatsTest, BucketsHoldValuesUpToTheirBound) {
  Histogram histogram({1, 2, 5});
  for (const double value : {0.5, 1.0, 1.5, 5.0, 7.0}) histogram.Observe(value);
  EXPECT_EQ(histogram.counts, (std::vector<uint64_t>{2, 1, 1, 1}));
  EXPECT_EQ(histogram.count, 5u);
  EXPECT_EQ(histogram.sum, 15);
  EXPECT_EQ(OneTwoFiveBuckets(100), (std::vector<double>{1, 2, 5, 10, 20, 50, 100}));
}

// One request with a known course in time.
TEST(StatsRecorderTest, TimesOfARequest) {
  FakeClock clock;
  StatsRecorder recorder(1000, 10, 10, clock.Now());
  ActiveRequest request;
  request.prompt = {1, 2, 3};
  request.params = std::make_shared<sampling::SamplingParams>();
  request.arrival_time = clock.Now();
  request.sequences.push_back(std::make_unique<Sequence>());
  Sequence* const sequence = request.sequences[0].get();
  sequence->request = &request;
  sequence->num_cached_prompt = 2;
  sequence->num_preemptions = 4;
  auto lock = std::make_optional<StatsRecorder::Update>(&recorder);
  StatsRecorder::Update& update = *lock;
  clock.Advance(1);
  update.FirstScheduled(sequence, clock.Now());
  for (int i = 0; i < 3; ++i) {
    clock.Advance(2);
    sequence->output.push_back(7);
    update.Token(sequence, clock.Now());
  }
  clock.Advance(0.5);
  update.Finished(*sequence, FinishReason::kLength, clock.Now());
  update.PrefixCache(4, 2);
  update.Gauges(3, 4, 0.25);
  EXPECT_EQ(update.LogLine(9.9), std::nullopt);
  EXPECT_EQ(update.LogLine(10),
            "Engine 000: Avg prompt throughput: 0.3 tokens/s, Avg generation throughput: 0.3 "
            "tokens/s, Running: 3 reqs, Waiting: 4 reqs, GPU KV cache usage: 25.0%, Prefix cache "
            "hit rate: 50.0%");
  update.Step(5, 6);
  EXPECT_EQ(update.LogLine(20),
            "Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 0.0 "
            "tokens/s, Running: 3 reqs, Waiting: 4 reqs, Preemptions: 6, GPU KV cache usage: "
            "25.0%, Prefix cache hit rate: 50.0%");
  lock.reset();
  const Stats s = recorder.Snapshot();
  EXPECT_EQ(s.request_queue_time.sum, 1);
  EXPECT_EQ(s.time_to_first_token.sum, 3);
  EXPECT_EQ(s.inter_token_latency.sum, 4);
  EXPECT_EQ(s.inter_token_latency.count, 2u);
  EXPECT_EQ(s.request_prefill_time.sum, 2);
  EXPECT_EQ(s.request_decode_time.sum, 4);
  EXPECT_EQ(s.request_inference_time.sum, 6);
  EXPECT_EQ(s.request_time_per_output_token.sum, 2);
  EXPECT_EQ(s.e2e_request_latency.sum, 7.5);
  EXPECT_EQ(s.prompt_tokens, 3u);
  EXPECT_EQ(s.prompt_tokens_cached, 2u);
  EXPECT_EQ(s.finished_length, 1u);
  EXPECT_EQ(s.request_num_preemptions.sum, 4);
  EXPECT_EQ(s.request_prefill_kv_computed_tokens.sum, 1);
}

}  // namespace
}  // namespace tiercel::engine
