#include "bench/offline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::bench {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Gives one token of each sample a poll; a tenth of a second passes meanwhile.
class FakeStream final : public engine::Stream {
 public:
  FakeStream(engine::Request request, FakeClock* clock, Status error, std::function<void()> on_news)
      : request_(std::move(request)),
        clock_(clock),
        error_(std::move(error)),
        on_news_(std::move(on_news)) {
    on_news_();
  }

  bool Poll(std::vector<engine::StreamEvent>* events) override {
    events->clear();
    clock_->Advance(0.1);
    ++given_;
    for (int i = 0; i < request_.params->n; ++i) {
      engine::StreamEvent event;
      event.index = i;
      event.tokens.emplace_back();
      if (!error_.ok()) {
        event.finish = engine::FinishReason::kError;
        event.error = error_;
      } else if (finished()) {
        event.finish = engine::FinishReason::kLength;
      }
      events->push_back(std::move(event));
    }
    if (!finished()) on_news_();
    return true;
  }
  bool Wait(double) override { return true; }
  void Stop(int) override {}
  bool finished() const override { return given_ >= request_.params->max_tokens; }
  std::optional<engine::PromptInfo> TakePromptInfo() override { return std::nullopt; }

 private:
  const engine::Request request_;
  FakeClock* const clock_;
  const Status error_;
  const std::function<void()> on_news_;
  int64_t given_ = 0;
};

class FakeEngine final : public engine::Engine {
 public:
  explicit FakeEngine(FakeClock* clock) : clock_(clock) { options_.max_model_len = 10; }

  Expected<std::unique_ptr<engine::Stream>> Submit(engine::Request request,
                                                   std::function<void()> on_news) override {
    requests.push_back(request);
    return std::make_unique<FakeStream>(std::move(request), clock_, error, std::move(on_news));
  }
  void SetStepHook(std::function<void()>) override {}
  const engine::EngineOptions& options() const override { return options_; }
  std::vector<engine::Stats> GetStats() const override { return {{}}; }
  bool ResetPrefixCache() override { return true; }
  bool Sleep(bool) override { return true; }
  void WakeUp() override {}
  bool sleeping() const override { return false; }
  bool healthy() const override { return true; }
  void Drain(double) override {}

  std::vector<engine::Request> requests;
  Status error;

 private:
  FakeClock* const clock_;
  engine::EngineOptions options_;
};

OfflineWork TwoRequests() {
  OfflineWork work;
  work.num_requests = 2;
  work.prompt = [](size_t index) { return std::vector<int32_t>(index + 3, 7); };
  work.output_tokens = [](size_t index) { return static_cast<int64_t>(index) + 4; };
  return work;
}

TEST(RunOffline, CountsTokensAndTime) {
  FakeClock clock;
  FakeEngine engine(&clock);
  OfflineWork work = TwoRequests();
  work.n = 2;
  std::vector<int64_t> ended;
  work.on_end = [&](int64_t count) { ended.push_back(count); };
  const auto result = RunOffline(work, &engine, clock);
  ASSERT_TRUE(result) << result.error();
  EXPECT_EQ(result->prompt_tokens, 3 + 4);
  EXPECT_EQ(result->output_tokens, 2 * (4 + 5));
  EXPECT_NEAR(result->elapsed_s, 0.9, 1e-9);
  EXPECT_THAT(ended, ElementsAre(1, 2));
  ASSERT_EQ(engine.requests.size(), 2u);
  EXPECT_TRUE(engine.requests[1].params->ignore_eos);
  EXPECT_EQ(engine.requests[1].params->max_tokens, 5);
  EXPECT_EQ(engine.requests[1].params->temperature, 1);
}

TEST(RunOffline, SaysWhatEachRequestTook) {
  FakeClock clock;
  clock.Advance(50);
  FakeEngine engine(&clock);
  OfflineWork work = TwoRequests();  // 4 and 5 tokens; polled in turn while both run
  const auto both = RunOffline(work, &engine, clock);
  ASSERT_TRUE(both) << both.error();
  ASSERT_EQ(both->load.outcomes.size(), 2u);
  const Outcome& first = both->load.outcomes[0];
  EXPECT_TRUE(first.success);
  EXPECT_EQ(first.prompt_tokens, 3);
  EXPECT_EQ(first.output_tokens, 4);
  EXPECT_NEAR(first.ttft_s, 0.1, 1e-9);
  EXPECT_THAT(first.itls_s, ElementsAre(DoubleNear(0.2, 1e-9), DoubleNear(0.2, 1e-9), DoubleNear(0.2, 1e-9)));
  EXPECT_NEAR(first.latency_s, 0.7, 1e-9);
  EXPECT_NEAR(both->load.outcomes[1].ttft_s, 0.2, 1e-9);
  EXPECT_NEAR(both->load.start_s, 50, 1e-9);
  EXPECT_NEAR(both->load.duration_s, 0.9, 1e-9);

  work.max_concurrency = 1;
  const auto in_turn = RunOffline(work, &engine, clock);
  ASSERT_TRUE(in_turn) << in_turn.error();
  const Outcome& second = in_turn->load.outcomes[1];
  EXPECT_NEAR(in_turn->load.outcomes[0].latency_s, 0.4, 1e-9);
  EXPECT_NEAR(second.queue_s, 0.4, 1e-9);
  EXPECT_NEAR(second.ttft_s, 0.1, 1e-9);
  EXPECT_NEAR(second.latency_s, 0.5, 1e-9);
}

TEST(RunOffline, WhatDoesNotFitIsRefused) {
  FakeClock clock;
  FakeEngine engine(&clock);
  OfflineWork work = TwoRequests();
  work.output_tokens = [](size_t index) { return index == 0 ? 7 : 8; };  // 3 + 7 of 10; 4 + 8
  const auto result = RunOffline(work, &engine, clock);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(result.error().message(), HasSubstr("--max-model-len 10"));
}

TEST(RunOffline, ErrorsAndStopsEndIt) {
  FakeClock clock;
  FakeEngine engine(&clock);
  engine.error = Internal("the step failed");
  OfflineWork work = TwoRequests();
  EXPECT_EQ(RunOffline(work, &engine, clock).error().message(), "the step failed");
  engine.error = OkStatus();
  std::atomic<bool> stop = true;
  work.stop = &stop;
  EXPECT_EQ(RunOffline(work, &engine, clock).error().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace tiercel::bench
