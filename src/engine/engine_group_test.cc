// Several engines behind the interface of one.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <set>
#include <thread>

#include "engine/engine_test_util.h"

namespace tiercel::engine {
namespace {

struct TestGroup {
  std::unique_ptr<Engine> engine;
  std::vector<FakeLm*> lms;  // owned by the engine
};

TestGroup MakeGroup(int engines, const EngineOptions& options = SmallOptions(),
                    const FakeLmOptions& fake = {}) {
  TestGroup group;
  std::vector<std::unique_ptr<Engine>> parts;
  for (int i = 0; i < engines; ++i) {
    EngineOptions own = options;
    own.index += i;
    TestEngine part = MakeEngine(std::move(own), fake);
    group.lms.push_back(part.lm);
    parts.push_back(std::move(part.engine));
  }
  group.engine = Engine::Group(std::move(parts));
  return group;
}

TestRequest MakeRequest(int i) {
  TestRequest request;
  request.id = std::to_string(i);
  request.prompt = MakePrompt(3 + i * 5 % 40, i);
  request.params.max_tokens = 4 + i % 9;
  request.params.ignore_eos = true;
  request.params.temperature = i % 3 == 0 ? 0.0 : 1.0;
  if (i % 3 == 1) request.params.seed = i;  // else the engine's, by the request's number
  request.params.n = i % 3 == 0 ? 1 : 1 + i % 4;
  request.params.logprobs = i % 2 == 0 ? std::optional<int>(3) : std::nullopt;
  return request;
}

std::unique_ptr<Stream> SubmitTo(Engine* engine, const TestRequest& request) {
  auto stream = engine->Submit(request, nullptr);
  EXPECT_TRUE(stream) << (stream ? "" : stream.error().message());
  return stream ? std::move(*stream) : nullptr;
}

uint64_t Sum(const std::vector<Stats>& stats, uint64_t Stats::* member) {
  return std::accumulate(stats.begin(), stats.end(), uint64_t{0},
                         [&](uint64_t sum, const Stats& s) { return sum + s.*member; });
}

template <typename F>
bool Eventually(F&& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

bool IsIdle(const Engine& engine) {
  for (const Stats& stats : engine.GetStats()) {
    if (stats.num_requests_running + stats.num_requests_waiting > 0) return false;
  }
  return true;
}

TEST(EngineGroupTest, AnswersAsOneEngineDoes) {
  constexpr int kRequests = 60;
  std::vector<std::vector<std::vector<Outcome>>> answers;
  for (const int engines : {1, 2, 3}) {
    TestGroup group = MakeGroup(engines);
    std::vector<std::unique_ptr<Stream>> streams;
    for (int i = 0; i < kRequests; ++i) streams.push_back(SubmitTo(group.engine.get(), MakeRequest(i)));
    answers.emplace_back();
    for (int i = 0; i < kRequests; ++i) {
      answers.back().push_back(Collect(streams[static_cast<size_t>(i)].get(), MakeRequest(i).params.n));
    }
    const std::vector<Stats> stats = group.engine->GetStats();
    ASSERT_EQ(std::ssize(stats), engines);
    for (const Stats& each : stats) EXPECT_GT(each.finished_length, 0u);
  }
  for (size_t group = 1; group < answers.size(); ++group) {
    for (size_t i = 0; i < kRequests; ++i) {
      ASSERT_EQ(answers[group][i].size(), answers[0][i].size());
      for (size_t n = 0; n < answers[0][i].size(); ++n) ExpectEqual(answers[group][i][n], answers[0][i][n]);
    }
  }
}

TEST(EngineGroupTest, BeamsStayInOneEngineAndAreThoseOfOne) {
  std::vector<std::vector<Outcome>> answers;
  for (const int engines : {1, 3}) {
    TestGroup group = MakeGroup(engines);
    TestRequest request = MakeRequest(0);
    request.params.use_beam_search = true;
    request.params.n = 3;
    request.params.max_tokens = 8;
    answers.push_back(Collect(SubmitTo(group.engine.get(), request).get(), 3));
    int used = 0;
    for (const Stats& stats : group.engine->GetStats()) used += stats.num_steps > 0;
    EXPECT_EQ(used, 1);
  }
  for (size_t n = 0; n < 3; ++n) ExpectEqual(answers[1][n], answers[0][n]);
}

TEST(EngineGroupTest, PromptsFindTheEngineThatHasTheirBeginning) {
  TestGroup group = MakeGroup(3);
  // 40 tokens of its own each, then they come again with other ends.
  for (int round = 0; round < 4; ++round) {
    for (int text = 0; text < 3; ++text) {
      TestRequest request = MakeRequest(0);
      request.prompt = MakePrompt(40, 5 * text, 3 + text);
      request.prompt.push_back(round);
      auto stream = SubmitTo(group.engine.get(), request);
      Collect(stream.get());
      const auto info = stream->TakePromptInfo();
      ASSERT_TRUE(info);
      EXPECT_EQ(info->cached_tokens, round == 0 ? 0 : 40) << "text " << text << ", round " << round;
    }
  }
  for (const Stats& stats : group.engine->GetStats()) EXPECT_EQ(stats.finished_length, 4u);
}

// What was refused or left early weighs no more.
TEST(EngineGroupTest, LoadIsGivenBack) {
  FakeLmOptions slow;
  slow.step_seconds = 0.002;
  TestGroup group = MakeGroup(2, SmallOptions(), slow);
  TestRequest long_one = MakeRequest(0);
  long_one.params.max_tokens = 200;
  for (int i = 0; i < 6; ++i) SubmitTo(group.engine.get(), long_one).reset();  // dropped at once
  TestRequest too_long = MakeRequest(0);
  too_long.prompt = MakePrompt(5000, 1);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(group.engine->Submit(too_long, nullptr));
  ASSERT_TRUE(Eventually([&] { return IsIdle(*group.engine); }));
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 8; ++i) {
    TestRequest request = MakeRequest(0);
    request.prompt = MakePrompt(30, i, 11);
    request.params.max_tokens = 50;
    streams.push_back(SubmitTo(group.engine.get(), request));
  }
  for (auto& stream : streams) Collect(stream.get());
  for (const Stats& stats : group.engine->GetStats()) EXPECT_EQ(stats.finished_length, 4u);
}

TEST(EngineGroupTest, SleepWakeUpAndResetAreForAll) {
  FakeLmOptions slow;
  slow.step_seconds = 0.002;
  TestGroup group = MakeGroup(3, SmallOptions(), slow);
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 6; ++i) {
    TestRequest request = MakeRequest(0);
    request.prompt = MakePrompt(20, i);
    request.params.max_tokens = 200;
    streams.push_back(SubmitTo(group.engine.get(), request));
  }
  ASSERT_TRUE(Eventually([&] {
    const std::vector<Stats> stats = group.engine->GetStats();
    return std::all_of(stats.begin(), stats.end(), [](const Stats& s) { return s.num_requests_running == 2; });
  }));
  EXPECT_FALSE(group.engine->ResetPrefixCache());
  EXPECT_TRUE(group.engine->Sleep(/*abort=*/true));
  EXPECT_TRUE(group.engine->sleeping());
  for (auto& stream : streams) EXPECT_EQ(Collect(stream.get())[0].finish, FinishReason::kAbort);
  for (int i = 0; i < 6; ++i) EXPECT_FALSE(group.engine->Submit(MakeRequest(i), nullptr));
  group.engine->WakeUp();
  EXPECT_FALSE(group.engine->sleeping());
  EXPECT_TRUE(group.engine->ResetPrefixCache());
  for (int i = 0; i < 6; ++i) {
    auto stream = SubmitTo(group.engine.get(), MakeRequest(3 * i));
    EXPECT_EQ(Collect(stream.get())[0].finish, FinishReason::kLength);
  }
}

TEST(EngineGroupTest, DrainsAllAtOnce) {
  FakeLmOptions slow;
  slow.step_seconds = 0.002;
  for (const double grace : {0.0, 60.0}) {
    TestGroup group = MakeGroup(3, SmallOptions(), slow);
    std::vector<std::unique_ptr<Stream>> streams;
    for (int i = 0; i < 6; ++i) {
      TestRequest request = MakeRequest(0);
      request.prompt = MakePrompt(20, i);
      request.params.max_tokens = grace > 0 ? 20 : 200;
      streams.push_back(SubmitTo(group.engine.get(), request));
    }
    group.engine->Drain(grace);
    for (auto& stream : streams) {
      EXPECT_EQ(Collect(stream.get())[0].finish, grace > 0 ? FinishReason::kLength : FinishReason::kAbort);
    }
    EXPECT_FALSE(group.engine->Submit(MakeRequest(0), nullptr));
  }
}

TEST(EngineGroupTest, OneThatFailsIsSeen) {
  EngineOptions options = SmallOptions();
  FakeLmOptions failing;
  failing.fail_at_step = 3;
  std::vector<std::unique_ptr<Engine>> parts;
  parts.push_back(MakeEngine(options).engine);
  parts.push_back(MakeEngine(options, failing).engine);
  const auto group = Engine::Group(std::move(parts));
  EXPECT_TRUE(group->healthy());
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 2; ++i) {
    TestRequest request = MakeRequest(0);
    request.prompt = MakePrompt(20, i);
    request.params.max_tokens = 20;
    streams.push_back(SubmitTo(group.get(), request));
  }
  std::multiset<FinishReason> ends;
  for (auto& stream : streams) ends.insert(Collect(stream.get())[0].finish);
  EXPECT_EQ(ends, (std::multiset{FinishReason::kLength, FinishReason::kError}));
  EXPECT_TRUE(Eventually([&] { return !group->healthy(); }));
}

TEST(EngineGroupTest, EachEngineCallsTheStepHook) {
  std::atomic<int> steps{0}, news{0};  // before the group, whose engines count until they end
  TestGroup group = MakeGroup(2);
  group.engine->SetStepHook([&] { ++steps; });
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 8; ++i) {
    auto stream = group.engine->Submit(MakeRequest(i), [&] { ++news; });
    ASSERT_TRUE(stream);
    streams.push_back(std::move(*stream));
  }
  for (int i = 0; i < 8; ++i) Collect(streams[static_cast<size_t>(i)].get(), MakeRequest(i).params.n);
  EXPECT_GT(news, 0);
  EXPECT_GT(steps, 0);
}

// From many threads, some of which leave early: nothing is lost and every sample is counted once.
TEST(EngineGroupTest, ManyThreads) {
  TestGroup group = MakeGroup(3);
  constexpr int kThreads = 8, kRequests = 25;
  std::atomic<uint64_t> samples{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRequests; ++i) {
        const TestRequest request = MakeRequest(t * kRequests + i);
        auto stream = SubmitTo(group.engine.get(), request);
        samples += static_cast<uint64_t>(request.params.n);
        if (i % 5 == 4) continue;  // leaves
        if (i % 5 == 3) stream->Stop(0);
        for (const Outcome& outcome : Collect(stream.get(), request.params.n)) {
          EXPECT_TRUE(outcome.finish == FinishReason::kLength || i % 5 == 3);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(Eventually([&] { return IsIdle(*group.engine); }));
  const std::vector<Stats> stats = group.engine->GetStats();
  EXPECT_EQ(Sum(stats, &Stats::finished_length) + Sum(stats, &Stats::finished_abort) +
                Sum(stats, &Stats::finished_stop),
            samples);
}

}  // namespace
}  // namespace tiercel::engine
