// What the engine thread itself takes of a step: scheduling, writing the plan out, merging results,
// statistics, publishing. The model costs next to nothing here and the steps are synchronous, so this is
// the time from the end of one step's model to the start of the next one's, in microseconds.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "engine/engine.h"

namespace tiercel::engine {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Every row's token is 1. Between two steps the readers take their tokens, outside of the measured time.
class NullLm final : public model::CausalLm {
 public:
  int64_t vocab_size() const override { return 8; }
  int64_t hidden_size() const override { return 8; }
  int64_t max_position() const override { return int64_t{1} << 17; }
  int workers() const override { return 1; }
  int64_t KvBlockBytes(int) const override { return 1; }
  int64_t WeightBytes() const override { return 1; }
  int64_t ActivationBytes(const model::RunLimits&) const override { return 1; }
  Status Prepare(const model::KvOptions&, const model::RunLimits& limits) override {
    logits_.assign(static_cast<size_t>(limits.logit_group_rows) * 8, 0);
    return OkStatus();
  }

  Status Run(const model::StepBatch& batch,
             FunctionRef<void(const model::LogitGroup&, int)> after) override {
    const double begin = Now();
    const auto rows = static_cast<int64_t>(batch.logit_rows.size());
    const bool decodes = rows == static_cast<int64_t>(batch.token_ids.size());
    if (decodes && last_end_ > 0) {
      seconds_ += begin - last_end_;
      ++steps_;
    }
    {
      std::lock_guard lock(mutex_);
      const size_t count = std::min(readers_.size(), num_polled_);
      for (size_t i = 0; i < count; ++i) readers_[i]->Poll(&events_);
    }
    for (int64_t r = 0; r < rows; ++r) logits_[static_cast<size_t>(r) * 8 + 1] = 1;
    if (rows > 0) after({0, rows, logits_.data(), 8}, 0);
    last_end_ = decodes ? Now() : 0;
    return OkStatus();
  }

  // The first `polled` readers have news; the others' requests wait.
  explicit NullLm(int64_t polled) : num_polled_(static_cast<size_t>(polled)) {}

  void AddReader(std::unique_ptr<Stream> reader) {
    std::lock_guard lock(mutex_);
    readers_.push_back(std::move(reader));
  }
  void DropReaders() {
    std::lock_guard lock(mutex_);
    readers_.clear();
  }
  int64_t steps() const { return steps_; }
  double seconds() const { return seconds_; }

 private:
  const size_t num_polled_;
  std::vector<float> logits_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Stream>> readers_;
  std::vector<StreamEvent> events_;
  double last_end_ = 0;
  std::atomic<double> seconds_ = 0;
  std::atomic<int64_t> steps_ = 0;
};

// Args: streams that decode, requests that wait.
void EngineStep(benchmark::State& state) {
  const int64_t streams = state.range(0), waiting = state.range(1);
  for (auto _ : state) {
    auto owned = std::make_unique<NullLm>(streams);
    NullLm* const lm = owned.get();
    EngineOptions options;
    options.max_model_len = 41000;
    options.max_num_seqs = streams;
    options.num_gpu_blocks_override = 1 + streams * 330;
    options.async_scheduling = false;
    options.log_stats_interval = 0;
    auto engine = Engine::Create(options, nullptr, std::move(owned));
    CHECK(engine.has_value());
    for (int64_t i = 0; i < streams + waiting; ++i) {
      Request request;
      request.prompt.assign(512, static_cast<int32_t>(i % 8));
      auto params = std::make_shared<sampling::SamplingParams>();
      params->temperature = 0;
      params->ignore_eos = true;
      params->max_tokens = 40000;
      request.params = std::move(params);
      auto stream = (*engine)->Submit(std::move(request), nullptr);
      CHECK(stream.has_value());
      lm->AddReader(std::move(*stream));
    }
    const auto wait_until = [lm](int64_t steps) {
      while (lm->steps() < steps) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    wait_until(lm->steps() + 100);  // the last submissions have been taken
    const int64_t before = lm->steps();
    const double seconds = lm->seconds();
    wait_until(before + 1000);
    state.SetIterationTime((lm->seconds() - seconds) / static_cast<double>(lm->steps() - before));
    lm->DropReaders();
  }
}
BENCHMARK(EngineStep)
    ->ArgNames({"streams", "waiting"})
    ->Args({1, 0})
    ->Args({32, 0})
    ->Args({256, 0})
    ->Args({256, 10000})
    ->UseManualTime()
    ->Iterations(3)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tiercel::engine

BENCHMARK_MAIN();
