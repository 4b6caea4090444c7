#include "engine/stats_recorder.h"

#include <gmock/gmock.h>
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
  request.state.prompt = {1, 2, 3};
  request.state.params = std::make_shared<sampling::SamplingParams>();
  request.arrival_time = clock.Now();
  request.state.sequences.push_back(std::make_unique<Sequence>());
  Sequence* const sequence = request.state.sequences[0].get();
  sequence->request = &request.state;
  sequence->num_cached_prompt = 2;
  sequence->num_preemptions = 4;
  clock.Advance(1);
  recorder.FirstScheduled(request, sequence, clock.Now());
  for (int i = 0; i < 3; ++i) {
    clock.Advance(2);
    sequence->output.push_back(7);
    recorder.Token(request, sequence, clock.Now());
  }
  clock.Advance(0.5);
  recorder.Finished(request, *sequence, FinishReason::kLength, clock.Now());
  recorder.Totals(0, 4, 2);
  recorder.Gauges(3, 4, 0, 0.25);
  EXPECT_EQ(recorder.LogLine(9.9), std::nullopt);
  EXPECT_EQ(recorder.LogLine(10),
            "Avg prompt throughput: 0.3 tokens/s, Avg generation throughput: 0.3 "
            "tokens/s, Running: 3 reqs, Waiting: 4 reqs, GPU KV cache usage: 25.0%, Prefix cache "
            "hit rate: 50.0%");
  recorder.Step(5);
  recorder.PromptStep(40, 0.1);
  recorder.PromptStep(60, 0.2);
  recorder.Totals(6, 4, 2);
  EXPECT_EQ(recorder.LogLine(20),
            "Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 0.0 "
            "tokens/s, Running: 3 reqs, Waiting: 4 reqs, Preemptions: 6, GPU KV cache usage: "
            "25.0%, Prefix cache hit rate: 50.0%, Steps with prompts: 2 of 50 prompt tokens and 150 "
            "ms");
  recorder.Publish();
  const Stats s = recorder.Snapshot([] { return 0; });
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

// The line covers the time in which there was something to do.
TEST(StatsRecorderTest, IdleTimeIsNotInTheLine) {
  StatsRecorder recorder(1000, 10, 10, 0);
  ActiveRequest request;
  request.state.prompt = {1, 2, 3};
  request.state.sequences.push_back(std::make_unique<Sequence>());
  Sequence* const sequence = request.state.sequences[0].get();
  sequence->request = &request.state;
  EXPECT_EQ(recorder.LogLine(500), std::nullopt);  // nothing has happened
  recorder.WorkCame(1000);
  recorder.Gauges(1, 0, 1, 0);
  for (int i = 0; i < 100; ++i) {
    sequence->output.push_back(7);
    recorder.Token(request, sequence, 1000 + i * 0.01);
  }
  recorder.Gauges(0, 0, 1, 0);
  EXPECT_EQ(recorder.SecondsUntilLine(1004), 6);
  EXPECT_EQ(recorder.LogLine(1009), std::nullopt);
  EXPECT_THAT(recorder.LogLine(1010).value_or(""),
              testing::HasSubstr("Avg prompt throughput: 0.3 tokens/s, Avg generation throughput: "
                                 "10.0 tokens/s, Running: 0 reqs"));
  EXPECT_EQ(recorder.LogLine(1100), std::nullopt);  // told already
}

// A sequence is waiting from its submission on, whoever holds it.
TEST(StatsRecorderTest, WaitingNeverDips) {
  StatsRecorder recorder(1000, 10, 10, 0);
  int64_t submitted = 3;
  const auto waiting = [&] {
    return recorder.Snapshot([&] { return submitted; }).num_requests_waiting;
  };
  EXPECT_EQ(waiting(), 3);      // in the inbox
  recorder.Gauges(0, 3, 3, 0);  // taken, not published
  EXPECT_EQ(waiting(), 3);
  recorder.Publish();
  EXPECT_EQ(waiting(), 3);
  submitted = 5;
  EXPECT_EQ(waiting(), 5);
  recorder.Gauges(2, 1, 3, 0.5);
  recorder.Publish();
  EXPECT_EQ(waiting(), 3);
}

}  // namespace
}  // namespace tiercel::engine
