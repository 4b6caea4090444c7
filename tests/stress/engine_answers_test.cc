// Real kernels, scheduler and sampler under random mixes: samples, log-probabilities of prompts and
// outputs, priorities, preemption, prefix hits, readers that stop samples or leave at any moment. Every
// answer that is read to its end, prompt entries included, is that of the same request alone.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "engine/engine_test_util.h"
#include "kernels/environment.h"
#include "model/load_model.h"

namespace tiercel::engine {
namespace {

constexpr int64_t kLongest = 320;

struct Answer {
  std::vector<Outcome> samples;
  std::vector<std::vector<TokenLogprob>> prompt;
};

std::vector<std::tuple<int32_t, float, int64_t>> Plain(const std::vector<TokenLogprob>& entries) {
  std::vector<std::tuple<int32_t, float, int64_t>> plain;
  for (const TokenLogprob& e : entries) plain.emplace_back(e.token, e.logprob, e.rank);
  return plain;
}

class EngineAnswersTest : public testing::TestWithParam<Mode> {
 protected:
  EngineAnswersTest() {
    auto environment = kernels::Environment::Create({.threads = 2, .pin = false});
    EXPECT_TRUE(environment.has_value()) << environment.error();
    environment_ = std::move(*environment);
  }

  std::unique_ptr<Engine> Make(EngineOptions options) {
    const auto checkpoint =
        checkpoint::Checkpoint::Open(std::string(TIERCEL_TEST_DATA) + "/models/qwen3-tied");
    EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error();
    auto model = model::LoadModel(**checkpoint, {.graph = {.mode = model::GraphMode::kFullDecodeOnly}},
                                  environment_.get(), [](int64_t, int64_t) {});
    EXPECT_TRUE(model.has_value()) << model.error();
    options.max_model_len = kLongest;
    options.scheduling_policy = SchedulingPolicy::kPriority;
    options.eos_token_ids = {2};
    options.log_stats_interval = 0;
    auto engine = Engine::Create(options, environment_.get(), std::move(*model));
    EXPECT_TRUE(engine.has_value()) << engine.error();
    return std::move(*engine);
  }

  // The truth: one request after another, nothing shared, nothing short.
  std::unique_ptr<Engine> MakeAlone() {
    EngineOptions options;
    options.async_scheduling = false;
    options.enable_prefix_caching = false;
    options.num_gpu_blocks_override = 100;
    return Make(options);
  }

  static Answer Ask(Engine* engine, const TestRequest& request) {
    auto stream = engine->Submit(request, nullptr);
    EXPECT_TRUE(stream.has_value()) << stream.error();
    return Read(stream->get(), request.params.n);
  }

  static Answer Read(Stream* stream, int n) {
    Answer answer;
    answer.samples = Collect(stream, n);
    if (auto info = stream->TakePromptInfo()) answer.prompt = std::move(info->prompt_logprobs);
    return answer;
  }

  std::unique_ptr<kernels::Environment> environment_;
};
INSTANTIATE_TEST_SUITE_P(Scheduling, EngineAnswersTest,
                         testing::Values(Mode{false}, Mode{true}, Mode{.drafts = true}), NameOf);

TestRequest RandomRequest(std::mt19937* random) {
  const auto one_in = [random](uint32_t n) { return (*random)() % n == 0; };
  TestRequest request;
  const int32_t family = static_cast<int32_t>((*random)() % 3);  // prompts of one begin alike
  const int64_t length = 1 + static_cast<int64_t>((*random)() % 260);
  for (int64_t i = 0; i < length; ++i) {
    request.prompt.push_back(3 + static_cast<int32_t>((i * i * 7 + family * 131 + i) % 700));
  }
  if (one_in(2)) request.prompt.back() = 3 + static_cast<int32_t>((*random)() % 700);
  request.priority = static_cast<int>((*random)() % 3);
  sampling::SamplingParams& p = request.params;
  p.max_tokens = 1 + static_cast<int64_t>((*random)() % 40);
  p.seed = (*random)();
  p.temperature = one_in(3) ? 0.0f : 0.8f;
  if (!p.greedy() && one_in(2)) p.n = 2 + static_cast<int>((*random)() % 3);
  if (one_in(2)) p.prompt_logprobs = static_cast<int>((*random)() % 3);
  if (one_in(2)) p.logprobs = static_cast<int>((*random)() % 3);
  if (one_in(4)) p.repetition_penalty = 1.2f;
  if (one_in(4)) p.top_k = 20;
  p.ignore_eos = one_in(2);
  return request;
}

void ExpectSame(const Answer& found, const Answer& expected) {
  for (size_t i = 0; i < expected.samples.size(); ++i) {
    ExpectEqual(found.samples[i], expected.samples[i]);
  }
  ASSERT_EQ(found.prompt.size(), expected.prompt.size());
  for (size_t i = 0; i < expected.prompt.size(); ++i) {
    EXPECT_EQ(Plain(found.prompt[i]), Plain(expected.prompt[i])) << "prompt token " << i;
  }
}

TEST_P(EngineAnswersTest, EveryAnswerIsThatOfTheRequestAlone) {
  std::mt19937 random(GetParam().async ? 5 : 6);
  int64_t preemptions = 0, hits = 0;
  for (int round = 0; round < 4 && !HasFailure(); ++round) {
    EngineOptions options;
    GetParam().Set(&options);
    options.max_num_seqs = 6;
    options.max_num_batched_tokens = round % 2 == 0 ? 48 : 200;
    // Prompts that end within their first block, or after many; room for few at a time.
    options.block_size = round < 2 ? 128 : 32;
    options.num_gpu_blocks_override = 1 + 576 / options.block_size;
    if (round == 3) options.long_prefill_token_threshold = 40;
    std::unique_ptr<Engine> engine = Make(options);
    struct Running {
      TestRequest request;
      std::unique_ptr<Stream> stream;
      Answer answer;
    };
    std::vector<Running> read;
    std::vector<std::unique_ptr<Stream>> leaving;
    std::vector<StreamEvent> events;
    for (int i = 0; i < 40; ++i) {
      const TestRequest request = RandomRequest(&random);
      auto stream = engine->Submit(request, nullptr);
      ASSERT_TRUE(stream.has_value()) << stream.error();
      switch (random() % 4) {
        case 0:  // leaves: at once, or while later ones come
          if (random() % 3 != 0) leaving.push_back(std::move(*stream));
          break;
        case 1:  // stops one of its samples, then leaves
          (*stream)->Wait(0.003);
          (*stream)->Stop(static_cast<int>(random() % static_cast<uint32_t>(request.params.n)));
          leaving.push_back(std::move(*stream));
          break;
        default:
          read.push_back({request, std::move(*stream), {}});
      }
      if (!leaving.empty() && random() % 2) {
        const size_t at = random() % leaving.size();
        leaving[at]->Poll(&events);
        leaving.erase(leaving.begin() + static_cast<int64_t>(at));
      }
    }
    for (Running& r : read) {
      r.answer = Read(r.stream.get(), r.request.params.n);
      r.stream.reset();
    }
    leaving.clear();
    engine->Drain(20);
    const Stats stats = engine->GetStats()[0];
    EXPECT_EQ(stats.kv_cache_usage, 0);
    EXPECT_EQ(stats.num_requests_running + stats.num_requests_waiting, 0);
    preemptions += static_cast<int64_t>(stats.num_preemptions);
    hits += static_cast<int64_t>(stats.prefix_cache_hits);
    engine.reset();  // one engine at a time uses the team
    const std::unique_ptr<Engine> alone = MakeAlone();
    for (const Running& r : read) {
      SCOPED_TRACE("round " + std::to_string(round) + ", prompt of " +
                   std::to_string(r.request.prompt.size()) + ", n " +
                   std::to_string(r.request.params.n));
      ExpectSame(r.answer, Ask(alone.get(), r.request));
    }
  }
  // The mixes did what they are for.
  EXPECT_GT(preemptions, 0);
  EXPECT_GT(hits, 0);
}

// Two prompts with two samples each, every prompt token's log-probabilities wanted.
TEST_P(EngineAnswersTest, SamplesWaitForTheirPromptsLogProbabilities) {
  EngineOptions options;
  GetParam().Set(&options);
  options.block_size = 128;  // the prompt is not even one
  options.num_gpu_blocks_override = 100;
  options.max_num_batched_tokens = 64;
  options.max_num_seqs = 16;
  std::unique_ptr<Engine> engine = Make(options);
  std::vector<TestRequest> requests(2);
  std::vector<std::unique_ptr<Stream>> streams;
  for (size_t i = 0; i < 2; ++i) {
    for (int32_t t = 0; t < 120; ++t) {
      requests[i].prompt.push_back(3 + (t * 31 + static_cast<int32_t>(i) * 57) % 700);
    }
    requests[i].params.n = 2;
    requests[i].params.temperature = 1;
    requests[i].params.seed = i;
    requests[i].params.prompt_logprobs = 1;
    requests[i].params.logprobs = 1;
    requests[i].params.max_tokens = 16;
    requests[i].params.ignore_eos = true;
    streams.push_back(std::move(*engine->Submit(requests[i], nullptr)));
  }
  std::vector<Answer> answers;
  for (const auto& stream : streams) answers.push_back(Read(stream.get(), 2));
  streams.clear();
  engine.reset();
  const std::unique_ptr<Engine> alone = MakeAlone();
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(answers[i].prompt.size(), 120u);
    for (size_t t = 1; t < 120; ++t) {
      ASSERT_GE(answers[i].prompt[t].size(), 2u) << t;
      EXPECT_EQ(answers[i].prompt[t][0].token, requests[i].prompt[t]);
    }
    ExpectSame(answers[i], Ask(alone.get(), requests[i]));
  }
}

}  // namespace
}  // namespace tiercel::engine
