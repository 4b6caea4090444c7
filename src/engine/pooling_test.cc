// Requests that pool, through the engine: their values are those of each prompt alone, by the plain
// function that the model of the tests computes.
#include "engine/pooling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/engine_test_util.h"

namespace tiercel::engine {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kHidden = 24;

FakeLmOptions PoolingLm(int workers = 1) {
  FakeLmOptions options;
  options.hidden_size = kHidden;
  options.workers = workers;
  return options;
}

std::shared_ptr<const PoolingParams> Params(PoolingTask task, bool use_activation = true,
                                            int64_t dimensions = 0) {
  return std::make_shared<PoolingParams>(PoolingParams{task, dimensions, use_activation});
}

Request PoolRequest(std::vector<int32_t> prompt, std::shared_ptr<const PoolingParams> params) {
  Request request;
  request.id = "r";
  request.prompt = std::move(prompt);
  request.pooling = std::move(params);
  return request;
}

std::vector<float> StateAfter(const std::vector<int32_t>& prompt, size_t count) {
  std::vector<float> state(kHidden);
  FakeLm::LogitsOf({prompt.begin(), prompt.begin() + static_cast<int64_t>(count)}, kHidden,
                   state.data());
  return state;
}

std::vector<float> UnitLength(std::vector<float> values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * v;
  for (float& v : values) v = static_cast<float>(v / std::sqrt(sum));
  return values;
}

void ExpectNear(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], 2e-7 * (1 + std::abs(expected[i]))) << "at " << i;
  }
}

struct Pooled {
  FinishReason finish = FinishReason::kNone;
  Status error;
  int64_t cached_tokens = 0;
  std::vector<std::vector<float>> rows;
};

Pooled Read(Stream* stream) {
  Pooled pooled;
  std::vector<StreamEvent> events;
  while (!stream->finished() && stream->Wait(10)) {
    if (!stream->Poll(&events)) continue;
    for (const StreamEvent& event : events) {
      EXPECT_TRUE(event.tokens.empty());
      if (event.finish == FinishReason::kNone) continue;
      pooled.finish = event.finish;
      pooled.error = event.error;
    }
  }
  if (std::optional<PromptInfo> info = stream->TakePromptInfo()) {
    pooled.cached_tokens = info->cached_tokens;
    pooled.rows = std::move(info->pooled);
  }
  return pooled;
}

// Prompts with common beginnings, many more than run at once, one token to the longest; steps cut them
// anywhere, and the pool is small enough that some are preempted.
TEST(EnginePoolingTest, ValuesAreThoseOfThePromptAlone) {
  for (const bool async : {false, true}) {
    for (const int64_t batched_tokens : {8, 32, 256}) {
      for (const int workers : {1, 2}) {
        EngineOptions options = SmallOptions();
        options.async_scheduling = async;
        options.max_num_batched_tokens = batched_tokens;
        options.num_gpu_blocks_override = 70;
        TestEngine test = MakeEngine(options, PoolingLm(workers));
        std::vector<std::vector<int32_t>> prompts;
        std::vector<std::unique_ptr<Stream>> streams;
        for (int i = 0; i < 40; ++i) {
          const int64_t length = i == 0 ? 1 : i == 1 ? 256 : 1 + i * 37 % 120;
          prompts.push_back(MakePrompt(length, i % 3));
          const PoolingTask task = i % 2 == 0 ? PoolingTask::kEmbed : PoolingTask::kTokenEmbed;
          auto stream = test.engine->Submit(PoolRequest(prompts.back(), Params(task)), {});
          ASSERT_TRUE(stream.has_value()) << stream.error();
          streams.push_back(std::move(*stream));
        }
        for (int i = 0; i < 40; ++i) {
          SCOPED_TRACE(fmt::format("async {} tokens {} workers {} request {}", async, batched_tokens,
                                   workers, i));
          const Pooled pooled = Read(streams[i].get());
          const std::vector<int32_t>& prompt = prompts[i];
          EXPECT_EQ(pooled.finish, FinishReason::kStop);
          ASSERT_EQ(pooled.rows.size(), i % 2 == 0 ? 1 : prompt.size());
          for (size_t r = 0; r < pooled.rows.size(); ++r) {
            const size_t count = i % 2 == 0 ? prompt.size() : r + 1;
            ExpectNear(pooled.rows[r], UnitLength(StateAfter(prompt, count)));
          }
        }
        const Stats stats = test.engine->GetStats()[0];
        EXPECT_EQ(stats.finished_stop, 40u);
        EXPECT_EQ(stats.generation_tokens, 0u);
        uint64_t tokens = 0;
        for (const auto& prompt : prompts) tokens += prompt.size();
        EXPECT_EQ(stats.prompt_tokens, tokens);
      }
    }
  }
}

TEST(EnginePoolingTest, ASecondTimeThePrefixIsFound) {
  TestEngine test = MakeEngine(SmallOptions(), PoolingLm());
  const std::vector<int32_t> prompt = MakePrompt(50, 1);
  const auto pool = [&](PoolingTask task) {
    auto stream = test.engine->Submit(PoolRequest(prompt, Params(task)), {});
    EXPECT_TRUE(stream.has_value());
    return Read(stream->get());
  };
  const Pooled first = pool(PoolingTask::kEmbed);
  const Pooled second = pool(PoolingTask::kEmbed);
  EXPECT_EQ(first.cached_tokens, 0);
  EXPECT_EQ(second.cached_tokens, 48);  // whole blocks of 4 before the last token
  EXPECT_EQ(first.rows, second.rows);
  // Every token's row must be computed.
  EXPECT_EQ(pool(PoolingTask::kTokenEmbed).cached_tokens, 0);
}

TEST(EnginePoolingTest, DimensionsAreCutBeforeTheLengthIsMadeOne) {
  TestEngine test = MakeEngine(SmallOptions(), PoolingLm());
  const std::vector<int32_t> prompt = MakePrompt(9, 2);
  std::vector<float> state = StateAfter(prompt, 9);
  const auto pool = [&](std::shared_ptr<const PoolingParams> params) {
    auto stream = test.engine->Submit(PoolRequest(prompt, std::move(params)), {});
    EXPECT_TRUE(stream.has_value());
    return Read(stream->get()).rows.at(0);
  };
  EXPECT_EQ(pool(Params(PoolingTask::kEmbed, false)), state);
  state.resize(7);
  ExpectNear(pool(Params(PoolingTask::kEmbed, true, 7)), UnitLength(state));
}

TEST(EnginePoolingTest, LabelsAreTheClassifiersOfTheState) {
  using Activation = model::Classifier::Activation;
  const std::vector<int32_t> prompt = MakePrompt(21, 5);
  for (const Activation activation : {Activation::kNone, Activation::kSigmoid, Activation::kSoftmax}) {
    auto classifier = std::make_shared<model::Classifier>();
    classifier->num_labels = 3;
    classifier->activation = activation;
    for (int i = 0; i < 3 * kHidden; ++i) {
      classifier->weight.push_back(0.01f * static_cast<float>(i * 17 % 41 - 20));
    }
    EngineOptions options = SmallOptions();
    options.classifier = classifier;
    TestEngine test = MakeEngine(options, PoolingLm());
    for (const bool active : {false, true}) {
      auto stream = test.engine->Submit(
          PoolRequest(prompt, Params(PoolingTask::kTokenClassify, active)), {});
      ASSERT_TRUE(stream.has_value()) << stream.error();
      const Pooled pooled = Read(stream->get());
      ASSERT_EQ(pooled.rows.size(), prompt.size());
      for (size_t r = 0; r < prompt.size(); ++r) {
        const std::vector<float> state = StateAfter(prompt, r + 1);
        std::vector<double> labels(3);
        double sum = 0;
        for (int label = 0; label < 3; ++label) {
          for (int i = 0; i < kHidden; ++i) {
            labels[label] += double{classifier->weight[label * kHidden + i]} * state[i];
          }
          sum += std::exp(labels[label]);
        }
        ASSERT_EQ(pooled.rows[r].size(), 3u);
        for (int label = 0; label < 3; ++label) {
          const double v = labels[label];
          const double expected = !active || activation == Activation::kNone ? v
                                  : activation == Activation::kSigmoid ? 1 / (1 + std::exp(-v))
                                                                        : std::exp(v) / sum;
          ASSERT_NEAR(pooled.rows[r][label], expected, 2e-6 * (1 + std::abs(expected)));
        }
      }
    }
  }
}

TEST(EnginePoolingTest, RefusesWhatDoesNotFit) {
  TestEngine test = MakeEngine(SmallOptions(), PoolingLm());
  const auto error = [&](Request request) {
    const auto stream = test.engine->Submit(std::move(request), {});
    return stream ? "no error" : stream.error().message();
  };
  Request tokens;
  tokens.prompt = {1};
  tokens.params = std::make_shared<sampling::SamplingParams>();
  EXPECT_THAT(error(tokens), HasSubstr("gives vectors or labels"));
  EXPECT_THAT(error(PoolRequest({1}, Params(PoolingTask::kClassify))), HasSubstr("gives vectors"));
  EXPECT_THAT(error(PoolRequest({1}, Params(PoolingTask::kEmbed, true, kHidden + 1))),
              HasSubstr("dimensions: found 25, expected a number from 1 to 24"));
  EXPECT_THAT(error(PoolRequest({}, Params(PoolingTask::kEmbed))), HasSubstr("cannot be empty"));
  EXPECT_THAT(error(PoolRequest(MakePrompt(257, 1), Params(PoolingTask::kEmbed))),
              HasSubstr("maximum context length is 256"));
  EXPECT_THAT(error(PoolRequest({101}, Params(PoolingTask::kEmbed))), HasSubstr("out of vocabulary"));
  // And the other way round.
  TestEngine generating = MakeEngine(SmallOptions());
  const auto stream = generating.engine->Submit(PoolRequest({1}, Params(PoolingTask::kEmbed)), {});
  EXPECT_THAT(stream.error().message(), HasSubstr("gives tokens"));
}

TEST(EnginePoolingTest, WhatIsNotFiniteEndsItsOwnRequest) {
  FakeLmOptions lm = PoolingLm();
  lm.logits = [](const std::vector<int32_t>& tokens, float* state) {
    FakeLm::LogitsOf(tokens, kHidden, state);
    if (tokens.back() == 7) state[3] = std::numeric_limits<float>::quiet_NaN();
  };
  TestEngine test = MakeEngine(SmallOptions(), lm);
  auto bad = test.engine->Submit(PoolRequest({1, 7}, Params(PoolingTask::kEmbed)), {});
  auto good = test.engine->Submit(PoolRequest({7, 1}, Params(PoolingTask::kEmbed)), {});
  ASSERT_TRUE(bad && good);
  const Pooled pooled = Read(bad->get());
  EXPECT_EQ(pooled.finish, FinishReason::kError);
  EXPECT_EQ(pooled.error.code(), StatusCode::kInternal);
  EXPECT_TRUE(pooled.rows.empty());
  EXPECT_EQ(Read(good->get()).finish, FinishReason::kStop);
}

TEST(EnginePoolingTest, AReaderThatGoesEndsItsRequest) {
  EngineOptions options = SmallOptions();
  options.max_num_batched_tokens = 8;
  FakeLmOptions lm = PoolingLm();
  lm.step_seconds = 0.005;
  TestEngine test = MakeEngine(options, lm);
  auto gone = test.engine->Submit(PoolRequest(MakePrompt(250, 1), Params(PoolingTask::kTokenEmbed)), {});
  auto kept = test.engine->Submit(PoolRequest(MakePrompt(30, 2), Params(PoolingTask::kEmbed)), {});
  ASSERT_TRUE(gone && kept);
  gone->reset();
  EXPECT_EQ(Read(kept->get()).finish, FinishReason::kStop);
  test.engine->Drain(5);
  EXPECT_EQ(test.engine->GetStats()[0].finished_abort, 1u);
}

}  // namespace
}  // namespace tiercel::engine
