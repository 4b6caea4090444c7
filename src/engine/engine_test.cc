#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <random>

#include "engine/engine_test_util.h"

namespace tiercel::engine {
namespace {

// Everything runs with asynchronous scheduling off and on, and on a model in stages.
class EngineTest : public testing::TestWithParam<Mode> {
 protected:
  EngineOptions Options() const {
    EngineOptions options = SmallOptions();
    GetParam().Set(&options);
    return options;
  }
  static TestEngine MakeEngine(EngineOptions options, FakeLmOptions fake = {}) {
    fake.max_under_way = GetParam().under_way;
    return engine::MakeEngine(std::move(options), std::move(fake));
  }
};
INSTANTIATE_TEST_SUITE_P(Scheduling, EngineTest, testing::ValuesIn(kModes), NameOf);

TestRequest MakeRequest(int64_t prompt_length, int32_t start, int64_t max_tokens) {
  TestRequest request;
  request.prompt = MakePrompt(prompt_length, start);
  request.params.temperature = 0;
  request.params.max_tokens = max_tokens;
  return request;
}

std::vector<Outcome> Ask(Engine* engine, const TestRequest& request) {
  auto stream = engine->Submit(request, nullptr);
  EXPECT_TRUE(stream.has_value()) << (stream ? "" : stream.error().message());
  if (!stream) return {};
  return Collect(stream->get(), request.params.n);
}

TEST_P(EngineTest, GreedyTokensAreThoseOfTheModel) {
  TestEngine test = MakeEngine(Options());
  for (const int64_t length : {1, 3, 4, 5, 31, 32, 33, 100, 255}) {
    const TestRequest request = MakeRequest(length, static_cast<int32_t>(length), 20);
    ExpectEqual(Ask(test.engine.get(), request)[0],
                Reference(request, test.engine->options(), 101, 256));
  }
}

// Streams, and the parts of a prompt, keep all stages at work; a single stream has each to itself in turn.
TEST_P(EngineTest, SoManyStepsAreUnderWay) {
  TestEngine test = MakeEngine(Options());
  EXPECT_EQ(Ask(test.engine.get(), MakeRequest(4, 1, 20))[0].tokens.size(), 20u);
  EXPECT_EQ(test.lm->most_under_way(), GetParam().under_way > 1 ? 1 : 0);
  EXPECT_EQ(test.lm->steps(), 20);
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 6; ++i) streams.push_back(std::move(*test.engine->Submit(MakeRequest(4, i, 20), nullptr)));
  for (const auto& stream : streams) Collect(stream.get());
  EXPECT_EQ(test.lm->most_under_way(), GetParam().under_way > 1 ? GetParam().under_way : 0);
}

// The model counts to 8 again and again: what is guessed is right, and several tokens come of a step.
TEST(EngineDraftsTest, RightGuessesSaveSteps) {
  FakeLmOptions fake;
  fake.logits = [](const std::vector<int32_t>& tokens, float* logits) {
    for (int i = 0; i < 101; ++i) logits[i] = 0;
    logits[tokens.back() % 8 + 1] = 5;
  };
  EngineOptions options = SmallOptions();
  options.drafts = {.num_tokens = 4, .lookup_min = 2, .lookup_max = 3};
  FakeClock stopped;  // so nothing is known of the cost of rows
  options.clock = &stopped;
  TestEngine test = MakeEngine(options, fake);
  EXPECT_FALSE(test.engine->options().async_scheduling);
  TestRequest request = MakeRequest(8, 1, 82);
  request.prompt = {1, 2, 3, 4, 5, 6, 7, 8};
  const Outcome outcome = Ask(test.engine.get(), request)[0];
  ASSERT_EQ(outcome.tokens.size(), 82u);
  for (size_t i = 0; i < 82; ++i) EXPECT_EQ(outcome.tokens[i].token, static_cast<int32_t>(i % 8 + 1));
  // The prompt's step, one until 1 2 stands there twice, then five tokens a step.
  EXPECT_EQ(test.lm->steps(), 2 + 80 / 5);
  const DraftStats drafts = test.engine->GetStats()[0].drafts;
  EXPECT_EQ(drafts.accepted, drafts.tokens);
  EXPECT_EQ(drafts.accepted_per_pos.size(), 4u);
  EXPECT_EQ(drafts.accepted_per_pos[0], drafts.drafts);
}

TEST(EngineDraftsTest, AModelInStagesHasNone) {
  EngineOptions options = SmallOptions();
  options.drafts = DraftOptions{.num_tokens = 4};
  FakeLmOptions fake;
  fake.max_under_way = 2;
  const auto engine = Engine::Create(options, nullptr, std::make_unique<FakeLm>(fake));
  ASSERT_FALSE(engine.has_value());
  EXPECT_THAT(engine.error().message(), testing::HasSubstr("speculative_config: found pipeline parallelism"));
}

TEST_P(EngineTest, RefusesWhatCanNeverRun) {
  EngineOptions options = Options();
  options.num_gpu_blocks_override = 11;  // 40 tokens
  TestEngine test = MakeEngine(options);
  const auto refused = [&](const TestRequest& request) {
    auto stream = test.engine->Submit(request, nullptr);
    return stream ? std::string("accepted") : stream.error().message();
  };
  EXPECT_THAT(refused(MakeRequest(0, 0, 5)), testing::HasSubstr("cannot be empty"));
  EXPECT_THAT(refused(MakeRequest(256, 0, 5)),
              testing::StartsWith("This model's maximum context length is 256 tokens. However, "
                                  "your prompt contains 256 input tokens"));
  EXPECT_THAT(refused(MakeRequest(40, 0, 5)), testing::HasSubstr("KV cache holds 40 tokens"));
  TestRequest bad = MakeRequest(4, 0, 5);
  bad.prompt[2] = 101;
  EXPECT_EQ(refused(bad), "Token id 101 is out of vocabulary");
  bad.prompt[2] = -1;
  EXPECT_EQ(refused(bad), "Token id -1 is out of vocabulary");
  bad = MakeRequest(4, 0, 5);
  bad.priority = 1;
  EXPECT_EQ(refused(bad), "Got priority 1 but Priority scheduling is not enabled.");
  // What fits ends by length when the pool is full.
  const Outcome outcome = Ask(test.engine.get(), MakeRequest(39, 1, 100))[0];
  EXPECT_EQ(outcome.tokens.size(), 1u);
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
}

TEST_P(EngineTest, EndsAtEosStopTokensAndLengths) {
  // The model counts upwards from the last token.
  FakeLmOptions fake;
  fake.logits = [](const std::vector<int32_t>& tokens, float* logits) {
    for (int i = 0; i < 101; ++i) logits[i] = 0;
    logits[(tokens.back() + 1) % 101] = 5;
  };
  TestEngine test = MakeEngine(Options(), fake);
  const auto run = [&](int32_t first, auto set) {
    TestRequest request;
    request.prompt = {first};
    request.params.temperature = 0;
    request.params.max_tokens = 10;
    set(&request.params);
    return Ask(test.engine.get(), request)[0];
  };
  Outcome o = run(97, [](auto*) {});
  EXPECT_EQ(o.ids(), (std::vector<int32_t>{98, 99}));
  EXPECT_EQ(o.finish, FinishReason::kStop);
  EXPECT_EQ(o.stop_token, 99);  // not the primary eos
  o = run(99, [](auto*) {});
  EXPECT_EQ(o.ids(), (std::vector<int32_t>{100}));
  EXPECT_EQ(o.finish, FinishReason::kStop);
  EXPECT_EQ(o.stop_token, std::nullopt);
  o = run(97, [](auto* p) { p->ignore_eos = true; });
  EXPECT_EQ(o.tokens.size(), 10u);
  EXPECT_EQ(o.finish, FinishReason::kLength);
  o = run(1, [](auto* p) { p->stop_token_ids = {5}; });
  EXPECT_EQ(o.ids(), (std::vector<int32_t>{2, 3, 4, 5}));
  EXPECT_EQ(o.stop_token, 5);
  o = run(1, [](auto* p) {
    p->stop_token_ids = {3};
    p->min_tokens = 4;
  });
  // 3 is masked as the second token; the first of the equal others follows.
  EXPECT_EQ(o.ids(), (std::vector<int32_t>{2, 0, 1, 2, 3}));
}

TEST_P(EngineTest, BeamsEndWithTheRoomAndLeaveNothingBehind) {
  // The next number is the likeliest, the one after it comes second.
  FakeLmOptions fake;
  fake.logits = [](const std::vector<int32_t>& tokens, float* logits) {
    for (int i = 0; i < 101; ++i) logits[i] = 0;
    logits[(tokens.back() + 1) % 50] = 9;
    logits[(tokens.back() + 2) % 50] = 7;
  };
  EngineOptions options = Options();
  options.num_gpu_blocks_override = 12;
  TestEngine test = MakeEngine(options, fake);
  TestRequest request = MakeRequest(30, 3, 1000);
  request.params.n = 3;
  request.params.use_beam_search = true;
  const std::vector<Outcome> outcomes = Ask(test.engine.get(), request);
  std::set<std::vector<int32_t>> answers;
  for (const Outcome& o : outcomes) {
    EXPECT_EQ(o.finish, FinishReason::kLength);
    EXPECT_EQ(o.tokens.size(), 44u - 30u);  // eleven blocks of four
    answers.insert(o.ids());
  }
  EXPECT_EQ(answers.size(), 3u);
  // The best one always takes the likeliest.
  int32_t next = request.prompt.back();
  for (const int32_t token : outcomes[0].ids()) EXPECT_EQ(token, next = (next + 1) % 50);

  const auto start = [&] {
    auto stream = test.engine->Submit(request, nullptr);
    EXPECT_TRUE(stream.has_value());
    return std::move(*stream);
  };
  {
    const auto left = start();
    std::vector<StreamEvent> events;
    left->Wait(0.01);
    left->Poll(&events);
  }
  const auto refused = start();
  test.engine->Drain(0);
  std::vector<StreamEvent> events;
  while (!refused->finished()) {
    ASSERT_TRUE(refused->Wait(20));
    refused->Poll(&events);
  }
  ASSERT_EQ(events.size(), 3u);
  for (const StreamEvent& event : events) {
    EXPECT_TRUE(event.finish == FinishReason::kAbort || event.finish == FinishReason::kError);
  }
  const Stats stats = test.engine->GetStats()[0];
  EXPECT_EQ(stats.num_requests_running + stats.num_requests_waiting, 0);
}

TEST_P(EngineTest, ManySamplesShareThePromptAndDiffer) {
  for (const bool caching : {true, false}) {
    EngineOptions options = Options();
    options.enable_prefix_caching = caching;
    TestEngine test = MakeEngine(options);
    TestRequest request = MakeRequest(101, 3, 6);
    request.params.temperature = 1;
    request.params.seed = 5;
    request.params.n = 64;
    const std::vector<Outcome> outcomes = Ask(test.engine.get(), request);
    std::set<std::vector<int32_t>> distinct;
    for (int i = 0; i < 64; ++i) {
      ExpectEqual(outcomes[static_cast<size_t>(i)],
                  Reference(request, test.engine->options(), 101, 256, i));
      distinct.insert(outcomes[static_cast<size_t>(i)].ids());
    }
    EXPECT_GT(distinct.size(), 60u);
    // The prompt once, its last token by each sample, and the outputs.
    const auto guessed = static_cast<int64_t>(test.engine->GetStats()[0].drafts.tokens);
  EXPECT_LT(test.lm->rows() - guessed, 101 + 64 * 8 + 64);
  }
}

TEST_P(EngineTest, PrefixCacheChangesNoTokenAndCacheSaltSeparates) {
  TestEngine test = MakeEngine(Options());
  const TestRequest request = MakeRequest(64, 9, 12);
  const auto run = [&](const std::string& salt) {
    TestRequest r = request;
    r.cache_salt = salt;
    auto stream = test.engine->Submit(r, nullptr);
    const Outcome outcome = Collect(stream->get())[0];
    ExpectEqual(outcome, Reference(r, test.engine->options(), 101, 256));
    return (*stream)->TakePromptInfo()->cached_tokens;
  };
  EXPECT_EQ(run(""), 0);
  EXPECT_EQ(run(""), 60);  // the last token is computed for its logits
  EXPECT_EQ(run("a"), 0);
  EXPECT_EQ(run("b"), 0);
  EXPECT_EQ(run("a"), 60);
  const Stats stats = test.engine->GetStats()[0];
  EXPECT_EQ(stats.prefix_cache_queries, 5u * 64);
  EXPECT_EQ(stats.prefix_cache_hits, 2u * 60);
  EXPECT_TRUE(test.engine->ResetPrefixCache());
  EXPECT_EQ(run(""), 0);
}

TEST_P(EngineTest, PromptLogprobsAreCompleteWhateverIsCached) {
  TestEngine test = MakeEngine(Options());
  TestRequest request = MakeRequest(150, 2, 3);
  Ask(test.engine.get(), request);
  request.params.prompt_logprobs = 2;
  for (int round = 0; round < 2; ++round) {
    auto stream = test.engine->Submit(request, nullptr);
    ExpectEqual(Collect(stream->get())[0], Reference(request, test.engine->options(), 101, 256));
    const std::optional<PromptInfo> info = (*stream)->TakePromptInfo();
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->cached_tokens, 0);
    ASSERT_EQ(info->prompt_logprobs.size(), 150u);
    EXPECT_TRUE(info->prompt_logprobs[0].empty());
    sampling::Sampler sampler(sampling::PortableVectorOps(), 101, LogprobsMode::kRawLogprobs);
    std::vector<float> logits(101);
    for (size_t i = 1; i < 150; ++i) {
      FakeLm::LogitsOf({request.prompt.begin(), request.prompt.begin() + static_cast<int>(i)}, 101,
                       logits.data());
      std::vector<TokenLogprob> expected;
      sampler.PromptLogprobs(logits.data(), request.prompt[i], 2, &expected);
      ASSERT_EQ(info->prompt_logprobs[i].size(), 3u);
      for (size_t j = 0; j < 3; ++j) {
        EXPECT_EQ(info->prompt_logprobs[i][j].token, expected[j].token);
        EXPECT_EQ(info->prompt_logprobs[i][j].logprob, expected[j].logprob);
      }
    }
  }
}

TEST_P(EngineTest, TinyCacheManyClientsSameTokensAsAlone) {
  EngineOptions options = Options();
  options.max_model_len = 64;
  options.num_gpu_blocks_override = 1 + 3 * 16;  // three sequences' worth
  TestEngine test = MakeEngine(options);
  std::vector<TestRequest> requests;
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 64; ++i) {
    TestRequest request = MakeRequest(5 + i % 11, i, 60);
    request.params.ignore_eos = true;
    request.params.temperature = i % 2 ? 0.9f : 0;
    request.params.seed = static_cast<uint64_t>(i);
    request.params.repetition_penalty = i % 3 ? 1.0f : 1.3f;
    requests.push_back(request);
    streams.push_back(std::move(*test.engine->Submit(request, nullptr)));
  }
  for (size_t i = 0; i < 64; ++i) {
    ExpectEqual(Collect(streams[i].get())[0],
                Reference(requests[i], test.engine->options(), 101, 64));
  }
  const Stats stats = test.engine->GetStats()[0];
  EXPECT_GT(stats.num_preemptions, 0u);
  EXPECT_EQ(stats.finished_length, 64u);
  EXPECT_EQ(stats.kv_cache_usage, 0);
}

TEST_P(EngineTest, DroppedAndStoppedStreamsFreeEverything) {
  EngineOptions options = Options();
  FakeLmOptions fake;
  fake.step_seconds = 0.001;
  TestEngine test = MakeEngine(options, fake);
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 20; ++i) {  // 8 run, 12 wait
    TestRequest request = MakeRequest(i % 4 == 0 ? 200 : 20, i, 50);
    request.params.ignore_eos = true;
    request.params.temperature = 1;
    request.params.n = i % 5 == 0 ? 3 : 1;
    streams.push_back(std::move(*test.engine->Submit(request, nullptr)));
  }
  std::vector<StreamEvent> events;
  ASSERT_TRUE(streams[1]->Wait(20));
  streams[1]->Poll(&events);
  streams[1]->Stop(0);
  EXPECT_TRUE(streams[1]->finished());
  streams.clear();
  for (int i = 0; i < 2000; ++i) {
    const Stats stats = test.engine->GetStats()[0];
    if (stats.num_requests_running + stats.num_requests_waiting == 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const Stats stats = test.engine->GetStats()[0];
  EXPECT_EQ(stats.num_requests_running, 0);
  EXPECT_EQ(stats.num_requests_waiting, 0);
  EXPECT_EQ(stats.kv_cache_usage, 0);
  EXPECT_EQ(stats.finished_stop, 1u);
  EXPECT_EQ(stats.finished_abort, 16u + 4 * 3 - 1);
  EXPECT_EQ(stats.e2e_request_latency.count, 28u);
  EXPECT_EQ(stats.request_params_n.count, 20u);
  EXPECT_EQ(stats.request_max_num_generation_tokens.count, 20u);
  EXPECT_EQ(stats.request_generation_tokens.sum, static_cast<double>(stats.generation_tokens));
  // And it still works.
  const TestRequest request = MakeRequest(10, 1, 5);
  ExpectEqual(Ask(test.engine.get(), request)[0],
              Reference(request, test.engine->options(), 101, 256));
}

TEST_P(EngineTest, QueuedTokensHaveALimit) {
  EngineOptions options = Options();
  options.max_num_queued_tokens = 5;
  TestEngine test = MakeEngine(options);
  const auto refused = test.engine->Submit(MakeRequest(6, 1, 1), nullptr);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), StatusCode::kResourceExhausted);
  const auto stream = test.engine->Submit(MakeRequest(5, 1, 1), nullptr);
  ASSERT_TRUE(stream.has_value());
  EXPECT_EQ(Collect(stream->get())[0].finish, FinishReason::kLength);
  EXPECT_EQ(test.engine->GetStats()[0].rejected_queued_tokens, 1u);
  EXPECT_EQ(test.engine->GetStats()[0].rejected_queued_reqs, 0u);
}

TEST_P(EngineTest, FullQueuesAreRefusedAndDrainEnds) {
  EngineOptions options = Options();
  options.max_num_seqs = 1;
  options.max_num_queued_reqs = 2;
  FakeLmOptions fake;
  fake.step_seconds = 0.002;
  TestEngine test = MakeEngine(options, fake);
  std::vector<std::unique_ptr<Stream>> streams;
  int rejected = 0;
  for (int i = 0; i < 10; ++i) {
    TestRequest request = MakeRequest(4, i, 200);
    request.params.ignore_eos = true;
    auto stream = test.engine->Submit(request, nullptr);
    if (stream) {
      streams.push_back(std::move(*stream));
    } else {
      EXPECT_EQ(stream.error().code(), StatusCode::kResourceExhausted);
      ++rejected;
    }
  }
  EXPECT_GE(rejected, 7);
  EXPECT_EQ(test.engine->GetStats()[0].rejected_queued_reqs, static_cast<uint64_t>(rejected));
  EXPECT_EQ(test.engine->GetStats()[0].rejected_queued_tokens, 0u);
  test.engine->Drain(0.02);
  for (const auto& stream : streams) {
    EXPECT_EQ(Collect(stream.get())[0].finish, FinishReason::kAbort);
  }
  auto late = test.engine->Submit(MakeRequest(4, 1, 1), nullptr);
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().code(), StatusCode::kUnavailable);
}

TEST_P(EngineTest, DrainLetsRunningRequestsEnd) {
  TestEngine test = MakeEngine(Options());
  const TestRequest request = MakeRequest(30, 1, 30);
  auto stream = test.engine->Submit(request, nullptr);
  test.engine->Drain(20);
  EXPECT_TRUE((*stream)->Wait(0));
  ExpectEqual(Collect(stream->get())[0], Reference(request, test.engine->options(), 101, 256));
}

class EngineFailureTest : public testing::TestWithParam<std::tuple<Mode, bool>> {};
INSTANTIATE_TEST_SUITE_P(
    Scheduling, EngineFailureTest, testing::Combine(testing::ValuesIn(kModes), testing::Bool()),
    [](const auto& info) {
      return NameOf({std::get<0>(info.param), 0}) + (std::get<1>(info.param) ? "Throws" : "Status");
    });

TEST_P(EngineFailureTest, AFailingModelEndsEveryStreamWithAnError) {
  EngineOptions options = SmallOptions();
  std::get<0>(GetParam()).Set(&options);
  FakeLmOptions fake;
  fake.max_under_way = std::get<0>(GetParam()).under_way;
  fake.fail_at_step = 5;
  fake.fail_by_throwing = std::get<1>(GetParam());
  TestEngine test = MakeEngine(options, fake);
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 10; ++i) {
    TestRequest request = MakeRequest(20, i, 50);
    request.params.ignore_eos = true;
    auto stream = test.engine->Submit(request, nullptr);
    if (stream) streams.push_back(std::move(*stream));
  }
  for (const auto& stream : streams) {
    EXPECT_EQ(Collect(stream.get())[0].finish, FinishReason::kError);
  }
  EXPECT_FALSE(test.engine->healthy());
  EXPECT_FALSE(test.engine->Submit(MakeRequest(4, 1, 1), nullptr).has_value());
  EXPECT_FALSE(test.engine->ResetPrefixCache());
  test.engine->Drain(1);  // returns at once
}

// Another process that the model needs may go while nothing runs: it is found without a request.
TEST(EngineChecksTest, AnIdleEngineSeesThatItsModelCannotRun) {
  FakeLmOptions fake;
  fake.seconds_between_checks = 0.01;
  TestEngine test = MakeEngine(SmallOptions(), fake);
  auto stream = test.engine->Submit(MakeRequest(4, 1, 3), nullptr);
  ASSERT_TRUE(stream.has_value());
  EXPECT_NE(Collect(stream->get())[0].finish, FinishReason::kError);
  EXPECT_TRUE(test.engine->healthy());
  test.lm->Break();
  for (int i = 0; i < 2000 && test.engine->healthy(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(test.engine->healthy());
  EXPECT_FALSE(test.engine->Submit(MakeRequest(4, 1, 1), nullptr).has_value());
}

// A clock that any thread may read while the test moves it.
class TestClock final : public Clock {
 public:
  double Now() const override { return now_; }
  void Set(double now) { now_ = now; }

 private:
  std::atomic<double> now_{0};
};

// The model may use idle time, but not between two requests that follow each other closely.
TEST_P(EngineTest, IdleTimeIsTheModelsAfterARest) {
  TestClock clock;
  EngineOptions options = Options();
  options.clock = &clock;
  FakeLmOptions fake;
  fake.idle_work = 3;
  TestEngine test = MakeEngine(options, fake);
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  int64_t expected = 0;
  for (double now = 0; now < 3; ++now) {
    pause();
    EXPECT_EQ(test.lm->idle_calls(), expected);
    clock.Set(now + 0.5);
    expected += 4;  // with one that had nothing to do
    for (int i = 0; i < 2000 && test.lm->idle_calls() < expected; ++i) pause();
    pause();
    EXPECT_EQ(test.lm->idle_calls(), expected);
    clock.Set(now + 1);
    auto stream = test.engine->Submit(MakeRequest(4, 1, 3), nullptr);
    ASSERT_TRUE(stream.has_value());
    EXPECT_EQ(Collect(stream->get())[0].tokens.size(), 3);
  }
}

// Whoever was let in before a drain ends; nobody is forgotten between the two.
TEST_P(EngineTest, DrainAgainstSubmissions) {
  for (int round = 0; round < 20; ++round) {
    TestEngine test = MakeEngine(Options());
    std::vector<std::vector<std::unique_ptr<Stream>>> streams(4);
    std::vector<std::thread> clients;
    for (auto& mine : streams) {
      clients.emplace_back([&mine, &test] {
        for (int i = 0; i < 1000; ++i) {
          auto stream = test.engine->Submit(MakeRequest(4 + i % 5, i, 3), nullptr);
          if (!stream) return;
          mine.push_back(std::move(*stream));
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200 * round));
    test.engine->Drain(20);
    const int64_t steps = test.lm->steps();
    for (std::thread& client : clients) client.join();
    for (const auto& mine : streams) {
      for (const auto& stream : mine) {
        EXPECT_TRUE(stream->Wait(0));
        EXPECT_NE(Collect(stream.get())[0].finish, FinishReason::kAbort);
      }
    }
    EXPECT_EQ(test.lm->steps(), steps);  // nothing ran after the drain
  }
}

TEST_P(EngineTest, TwoEnginesInOneProcess) {
  TestEngine a = MakeEngine(Options()), b = MakeEngine(Options());
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 20; ++i) {
    Engine* const engine = i % 2 ? a.engine.get() : b.engine.get();
    streams.push_back(std::move(*engine->Submit(MakeRequest(20, i, 10), nullptr)));
  }
  for (int i = 0; i < 20; ++i) {
    ExpectEqual(Collect(streams[static_cast<size_t>(i)].get())[0],
                Reference(MakeRequest(20, i, 10), a.engine->options(), 101, 256));
  }
}

// What all requests may hold in log-probabilities is bounded: the next one is told to come again,
// and may when a reader has gone.
TEST_P(EngineTest, LogProbabilitiesOfAllRequestsAreBounded) {
  FakeLmOptions fake;
  fake.max_position = 1 << 20;
  fake.vocab_size = 1 << 14;
  EngineOptions options = Options();
  options.max_model_len = 4000;
  options.num_gpu_blocks_override = 5000;
  options.max_num_seqs = 1;
  TestEngine test = MakeEngine(options, fake);
  TestRequest request = MakeRequest(8, 1, 3900);
  request.params.ignore_eos = true;
  request.params.logprobs = -1;  // 3900 · (2^14 + 1): just under what one request may have
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 2; ++i) {
    auto stream = test.engine->Submit(request, nullptr);
    ASSERT_TRUE(stream.has_value()) << stream.error();
    streams.push_back(std::move(*stream));
  }
  auto refused = test.engine->Submit(request, nullptr);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(test.engine->Submit(MakeRequest(8, 1, 3), nullptr).has_value());  // wants none
  streams.pop_back();
  EXPECT_TRUE(test.engine->Submit(request, nullptr).has_value());
}

TEST_P(EngineTest, NewsComeOncePerStepAndBeforeTheHook) {
  std::atomic<int> news{0}, hooks{0};
  TestEngine test = MakeEngine(Options());
  test.engine->SetStepHook([&] {
    EXPECT_GT(news.load(), 0);
    ++hooks;
  });
  TestRequest request = MakeRequest(10, 1, 20);
  request.params.ignore_eos = true;
  auto stream = test.engine->Submit(request, [&] { ++news; });
  std::vector<StreamEvent> events;
  // A reader that never polls is told once.
  test.engine->Drain(20);
  EXPECT_EQ(news, 1);
  EXPECT_EQ(hooks, 1);
  ASSERT_TRUE((*stream)->Poll(&events));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].tokens.size(), 20u);
  EXPECT_FALSE((*stream)->Poll(&events));
}

// A request that comes while a step runs is in the next one: not always (the step's length is only
// guessed), but it can be.
TEST_P(EngineTest, ANewRequestNeedNotWaitTwoSteps) {
  FakeLmOptions fake;
  fake.step_seconds = 0.02;
  TestEngine test = MakeEngine(Options(), fake);
  TestRequest request = MakeRequest(4, 1, 250);
  request.params.ignore_eos = true;
  const auto running = test.engine->Submit(request, nullptr);
  ASSERT_TRUE(running.has_value());
  std::vector<StreamEvent> events;
  int64_t fewest = 100;
  for (int i = 0; i < 30 && fewest > 1; ++i) {
    ASSERT_TRUE((*running)->Wait(20));
    (*running)->Poll(&events);
    const int64_t before = test.lm->steps();  // with the running one
    const auto late = test.engine->Submit(MakeRequest(4, i, 1), nullptr);
    ASSERT_TRUE(late.has_value());
    Collect(late->get());
    fewest = std::min(fewest, test.lm->steps() - before);
  }
  // Steps that began after the submission, up to the reading of the answer: its own, with asynchronous scheduling perhaps
  // the one after it, and those that are under way beside it.
  EXPECT_LE(fewest, 1 + GetParam().under_way);
}

TEST_P(EngineTest, StatisticsAreConsistent) {
  TestEngine test = MakeEngine(Options());
  Stats stats = test.engine->GetStats()[0];
  EXPECT_EQ(stats.e2e_request_latency.bounds.size(), 21u);
  EXPECT_EQ(stats.iteration_tokens.bounds.size(), 13u);
  for (int i = 0; i < 10; ++i) {
    TestRequest request = MakeRequest(10 + i, i, 10);
    request.params.temperature = 1;
    request.params.n = 1 + i % 3;
    Ask(test.engine.get(), request);
  }
  test.engine->Drain(20);
  stats = test.engine->GetStats()[0];
  const uint64_t samples = 10 + 3 + 2 * 3;
  EXPECT_EQ(stats.finished_stop + stats.finished_length, samples);
  EXPECT_EQ(stats.e2e_request_latency.count, samples);
  EXPECT_EQ(stats.request_queue_time.count, samples);
  EXPECT_EQ(stats.time_to_first_token.count, samples);
  EXPECT_EQ(stats.request_params_n.count, 10u);
  EXPECT_EQ(stats.request_prompt_tokens.sum, static_cast<double>(stats.prompt_tokens));
  EXPECT_EQ(stats.request_generation_tokens.sum, static_cast<double>(stats.generation_tokens));
  ExpectGapsBetweenSteps(stats);
  EXPECT_EQ(stats.num_steps, stats.iteration_tokens.count);
}

// Random mixes of parameters: the sequence alone, without an engine, is the truth for both modes.
TEST_P(EngineTest, RandomMixesGiveTheTokensOfEachSequenceAlone) {
  std::mt19937 random(17);
  for (int round = 0; round < 6; ++round) {
    EngineOptions options = Options();
    options.num_gpu_blocks_override = 80 + static_cast<int64_t>(random() % 200);
    options.max_num_batched_tokens = 8 + static_cast<int64_t>(random() % 60);
    options.enable_prefix_caching = random() % 2;
    if (random() % 3 == 0) options.long_prefill_token_threshold = 7;
    options.logprobs_mode = static_cast<LogprobsMode>(random() % 4);
    FakeLmOptions fake;
    fake.workers = 1 + round % 3;
    TestEngine test = MakeEngine(options, fake);
    std::vector<TestRequest> requests;
    std::vector<std::unique_ptr<Stream>> streams;
    for (int i = 0; i < 40; ++i) {
      TestRequest request = MakeRequest(1 + static_cast<int64_t>(random() % 120),
                                    static_cast<int32_t>(random() % 3),
                                    1 + static_cast<int64_t>(random() % 50));
      sampling::SamplingParams& p = request.params;
      if (random() % 3) p.temperature = 0.5f + static_cast<float>(random() % 10) / 10;
      p.seed = random();
      if (random() % 3 == 0 && !p.greedy()) p.n = 1 + static_cast<int>(random() % 5);
      if (random() % 3 == 0) p.top_k = 1 + static_cast<int>(random() % 30);
      if (random() % 3 == 0) p.top_p = 0.7f;
      if (random() % 4 == 0) p.min_p = 0.05f;
      if (random() % 3 == 0) p.repetition_penalty = 1.2f;
      if (random() % 3 == 0) p.frequency_penalty = 0.7f;
      if (random() % 3 == 0) p.presence_penalty = -0.5f;
      if (random() % 3 == 0) p.min_tokens = p.max_tokens / 2;
      if (random() % 3 == 0) p.logprobs = static_cast<int>(random() % 5);
      if (random() % 4 == 0) {
        p.bad_words_token_ids = {{5}, {1, 2}, {static_cast<int32_t>(random() % 90)}};
      }
      if (random() % 4 == 0) p.stop_token_ids = {static_cast<int32_t>(random() % 97), 3};
      if (random() % 5 == 0) p.logit_bias = {{3, 4.0f}, {100, -50.0f}};
      if (random() % 5 == 0) p.prompt_logprobs = 1;
      if (random() % 3 == 0) p.ignore_eos = true;
      requests.push_back(request);
      streams.push_back(std::move(*test.engine->Submit(request, nullptr)));
    }
    const int64_t max_length =
        std::min<int64_t>(256, (*options.num_gpu_blocks_override - 1) * options.block_size);
    for (size_t i = 0; i < requests.size(); ++i) {
      const std::vector<Outcome> outcomes = Collect(streams[i].get(), requests[i].params.n);
      for (int k = 0; k < requests[i].params.n; ++k) {
        ExpectEqual(outcomes[static_cast<size_t>(k)],
                    Reference(requests[i], test.engine->options(), 101, max_length, k));
      }
    }
    EXPECT_EQ(test.engine->GetStats()[0].kv_cache_usage, 0);
  }
}

// The step that was in flight when all was aborted is the last thing that wakes the engine.
TEST(EngineSleepTest, EndsWithTheStepThatIsInFlight) {
  EngineOptions options = SmallOptions();
  options.log_stats_interval = 0;
  FakeLmOptions fake;
  fake.step_seconds = 0.002;
  TestEngine test = MakeEngine(options, fake);
  for (int round = 0; round < 10; ++round) {
    TestRequest request;
    request.prompt = MakePrompt(20, round);
    request.params.max_tokens = 200;
    request.params.ignore_eos = true;
    auto stream = test.engine->Submit(request, nullptr);
    ASSERT_TRUE(stream);
    EXPECT_TRUE((*stream)->Wait(20));
    auto slept = std::async(std::launch::async, [&] { return test.engine->Sleep(/*abort=*/true); });
    EXPECT_EQ(slept.wait_for(std::chrono::seconds(20)), std::future_status::ready);
    test.engine->WakeUp();
    if (slept.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      Collect(test.engine->Submit(request, nullptr)->get());  // so that the test itself ends
    }
    EXPECT_TRUE(slept.get());
  }
}

}  // namespace
}  // namespace tiercel::engine
