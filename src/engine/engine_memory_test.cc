// Without memory: whatever allocation fails while requests are taken in, planned, sampled and published,
// only requests end for it, with kResourceExhausted; the engine lives and answers the next ones.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/engine_test_util.h"

namespace {
// Counts down to the failures; negative: no more.
std::atomic<int64_t> until_failure{-1};
std::atomic<int64_t> failure_period{0};  // 0: one failure
std::atomic<int64_t> num_failures{0};
// The reader's own allocations are its own affair.
thread_local bool exempt = false;

bool FailsNow() {
  if (exempt || until_failure.load() < 0 || until_failure.fetch_sub(1) != 0) return false;
  if (failure_period > 0) until_failure = failure_period - 1;
  ++num_failures;
  return true;
}
}  // namespace

void* operator new(size_t size) {
  void* const p = FailsNow() ? nullptr : std::malloc(size == 0 ? 1 : size);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace tiercel::engine {
namespace {

std::vector<TestRequest> Requests() {
  std::vector<TestRequest> requests(4);
  for (size_t i = 0; i < requests.size(); ++i) {
    TestRequest& request = requests[i];
    request.prompt = MakePrompt(9 + 10 * static_cast<int64_t>(i), static_cast<int32_t>(i));
    request.params.max_tokens = 12;
    request.params.seed = i;
    request.params.ignore_eos = true;
  }
  requests[0].params.n = 3;
  requests[0].params.prompt_logprobs = 2;
  requests[1].params.logprobs = 3;
  requests[1].params.repetition_penalty = 1.3f;
  requests[2].params.bad_words_token_ids = {{5}, {1, 2}};
  requests[3].params.n = 2;
  requests[3].params.prompt_logprobs = 1;
  requests[3].params.logprobs = 0;
  return requests;
}

// Submits all with failing allocations, and reads what was let in.
void RunWithFailures(Engine* engine) {
  std::vector<std::pair<TestRequest, std::unique_ptr<Stream>>> streams;
  for (const TestRequest& request : Requests()) {
    Request copy = request;
    exempt = false;
    Expected<std::unique_ptr<Stream>> stream = Unexpected(Status());
    try {
      stream = engine->Submit(std::move(copy), nullptr);
    } catch (const std::bad_alloc&) {
      // The caller answers 503.
    }
    exempt = true;
    if (stream) streams.emplace_back(request, std::move(*stream));
  }
  for (auto& [request, stream] : streams) {
    const std::vector<Outcome> outcomes = Collect(stream.get(), request.params.n);
    for (int i = 0; i < request.params.n; ++i) {
      const Outcome& o = outcomes[static_cast<size_t>(i)];
      if (o.finish == FinishReason::kError) continue;
      ExpectEqual(o, Reference(request, engine->options(), 101, 256, i));
    }
  }
}

class EngineMemoryTest : public testing::TestWithParam<bool> {
 protected:
  // One failure at allocation `first`, or one in `period` from there on.
  void Walk(int64_t first, int64_t period) {
    EngineOptions options = SmallOptions();
    options.async_scheduling = GetParam();
    options.log_stats_interval = 0;
    options.num_gpu_blocks_override = 1 + 64;  // one longest sequence: there are preemptions
    TestEngine test = MakeEngine(options);
    num_failures = 0;
    failure_period = period;
    until_failure = first;
    RunWithFailures(test.engine.get());
    until_failure = -1;
    ASSERT_TRUE(test.engine->healthy());
    const TestRequest after = Requests()[1];
    const auto stream = test.engine->Submit(after, nullptr);
    ASSERT_TRUE(stream.has_value());
    ExpectEqual(Collect(stream->get())[0], Reference(after, test.engine->options(), 101, 256));
    test.engine->Drain(20);
    const Stats stats = test.engine->GetStats()[0];
    EXPECT_EQ(stats.num_requests_running + stats.num_requests_waiting, 0);
    EXPECT_EQ(stats.kv_cache_usage, 0);
    EXPECT_EQ(stats.e2e_request_latency.count, stats.finished_stop + stats.finished_length +
                                                   stats.finished_abort + stats.finished_error);
  }
};
INSTANTIATE_TEST_SUITE_P(Scheduling, EngineMemoryTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Async" : "Sync"; });

TEST_P(EngineMemoryTest, AnyOneAllocationMayFail) {
  exempt = true;
  int64_t n = 0;
  do {
    SCOPED_TRACE("allocation " + std::to_string(n));
    Walk(n++, 0);
  } while (num_failures > 0 && !HasFailure());
  EXPECT_GT(n, 100);  // there were so many
}

TEST_P(EngineMemoryTest, ManyAllocationsMayFail) {
  exempt = true;
  for (const int64_t period : {1, 2, 3, 7, 20, 50}) {
    for (int64_t first = 0; first < 40 && !HasFailure(); ++first) {
      SCOPED_TRACE("from " + std::to_string(first) + " on, one in " + std::to_string(period));
      Walk(first, period);
    }
  }
}

}  // namespace
}  // namespace tiercel::engine
