// Many threads submit, read, stop and drop at once, while others ask for statistics and reset the
// prefix cache. What is read to the end must be the tokens of the sequence alone. Run it under
// ThreadSanitizer (label "threads").
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "engine/engine_test_util.h"

namespace tiercel::engine {
namespace {

struct Totals {
  std::atomic<int> submitted{0}, read{0}, dropped{0}, stopped{0};
};

TestRequest RandomRequest(std::mt19937* random) {
  TestRequest request;
  request.prompt = MakePrompt(1 + static_cast<int64_t>((*random)() % 60),
                              static_cast<int32_t>((*random)() % 4));
  sampling::SamplingParams& p = request.params;
  p.max_tokens = 1 + static_cast<int64_t>((*random)() % 20);
  p.seed = (*random)();
  p.temperature = (*random)() % 2 ? 0.0f : 0.9f;
  if (!p.greedy() && (*random)() % 3 == 0) p.n = 2;
  if ((*random)() % 3 == 0) p.frequency_penalty = 0.5f;
  if ((*random)() % 3 == 0) p.logprobs = 2;
  if ((*random)() % 5 == 0) p.prompt_logprobs = 1;
  return request;
}

void Client(Engine* engine, int64_t max_length, uint32_t seed, int count, Totals* totals) {
  std::mt19937 random(seed);
  std::vector<StreamEvent> events;
  for (int i = 0; i < count; ++i) {
    const TestRequest request = RandomRequest(&random);
    std::atomic<bool> alive{true};
    auto stream = engine->Submit(request, [&alive] { EXPECT_TRUE(alive); });
    ASSERT_TRUE(stream.has_value()) << stream.error().message();
    ++totals->submitted;
    switch (random() % 4) {
      case 0:  // goes away, perhaps at once
        if (random() % 2) (*stream)->Wait(20);
        ++totals->dropped;
        break;
      case 1:  // stops each sample after its first news
        while (!(*stream)->finished() && (*stream)->Wait(20)) {
          (*stream)->Poll(&events);
          for (const StreamEvent& event : events) (*stream)->Stop(event.index);
        }
        ++totals->stopped;
        break;
      default: {
        const std::vector<Outcome> outcomes = Collect(stream->get(), request.params.n);
        for (int k = 0; k < request.params.n; ++k) {
          ExpectEqual(outcomes[static_cast<size_t>(k)],
                      Reference(request, engine->options(), 101, max_length, k));
        }
        ++totals->read;
      }
    }
    stream->reset();
    alive = false;  // from here on on_news must not be called
  }
}

class EngineStressTest : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Scheduling, EngineStressTest, testing::ValuesIn(kModes), NameOf);

TEST_P(EngineStressTest, ManyClientsAtOnce) {
  EngineOptions options = SmallOptions();
  GetParam().Set(&options);
  options.max_model_len = 96;
  options.num_gpu_blocks_override = 1 + 3 * 24;
  FakeLmOptions fake;
  fake.workers = 3;
  fake.max_under_way = GetParam().under_way;
  TestEngine test = MakeEngine(options, fake);
  Totals totals;
  std::atomic<bool> done{false};
  std::thread observer([&] {
    while (!done) {
      const Stats stats = test.engine->GetStats()[0];
      EXPECT_LE(stats.num_requests_running, 8);
      ExpectGapsBetweenSteps(stats);
      test.engine->ResetPrefixCache();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  std::vector<std::thread> clients;
  for (uint32_t i = 0; i < 16; ++i) {
    clients.emplace_back([&, i] { Client(test.engine.get(), 96, i, 12, &totals); });
  }
  for (std::thread& client : clients) client.join();
  done = true;
  observer.join();
  test.engine->Drain(20);
  const Stats stats = test.engine->GetStats()[0];
  EXPECT_EQ(totals.submitted, 16 * 12);
  EXPECT_EQ(stats.num_requests_running + stats.num_requests_waiting, 0);
  EXPECT_EQ(stats.kv_cache_usage, 0);
  EXPECT_EQ(stats.request_params_n.count, 16u * 12);
  EXPECT_EQ(stats.request_generation_tokens.sum, static_cast<double>(stats.generation_tokens));
}

TEST_P(EngineStressTest, TheEngineGoesAwayBeforeItsStreams) {
  for (int round = 0; round < 20; ++round) {
    EngineOptions options = SmallOptions();
    GetParam().Set(&options);
    FakeLmOptions fake;
    fake.max_under_way = GetParam().under_way;
    TestEngine test = MakeEngine(options, fake);
    std::vector<std::unique_ptr<Stream>> streams;
    std::mt19937 random(static_cast<uint32_t>(round));
    for (int i = 0; i < 20; ++i) {
      streams.push_back(std::move(*test.engine->Submit(RandomRequest(&random), nullptr)));
    }
    test.engine.reset();
    std::vector<StreamEvent> events;
    for (const auto& stream : streams) {
      while (stream->Poll(&events)) {
      }
      EXPECT_TRUE(stream->finished());  // every sample got a last event
    }
  }
}

}  // namespace
}  // namespace tiercel::engine
