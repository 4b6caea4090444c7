#include "serving/engine_maker.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "options/option_parser.h"
#include "serving/serve_config_test_util.h"

namespace tiercel::serving {
namespace {

const std::string kModel = std::string(TIERCEL_TEST_DATA) + "/tiny-qwen3";

ServeConfig Config(std::vector<std::string> words) {
  words.insert(words.begin(), {kModel, "--load-format=dummy", "--max-model-len=64", "--kv-cache-memory-bytes=4M"});
  const auto config = Make(words);
  EXPECT_TRUE(config) << config.error();
  return *config;
}

// Eight greedy tokens.
std::vector<int32_t> Answer(engine::Engine* engine) {
  engine::Request request;
  request.prompt = {5, 17, 29, 3};
  auto params = std::make_shared<sampling::SamplingParams>();
  params->temperature = 0;
  params->ignore_eos = true;
  params->max_tokens = 8;
  request.params = std::move(params);
  auto stream = engine->Submit(std::move(request), nullptr);
  EXPECT_TRUE(stream) << stream.error();
  std::vector<int32_t> tokens;
  std::vector<engine::StreamEvent> events;
  while (!(*stream)->finished()) {
    if (!(*stream)->Wait(10) || !(*stream)->Poll(&events)) continue;
    for (const auto& event : events) {
      for (const auto& token : event.tokens) tokens.push_back(token.token);
    }
  }
  return tokens;
}

TEST(EngineMaker, LoadsOnlyWhatIsNotThere) {
  EngineMaker maker(kModel, {}, nullptr);
  const auto answer = [&](const std::vector<std::string>& words) {
    const auto engine = maker.Make(Config(words));
    EXPECT_TRUE(engine) << engine.error();
    return engine ? Answer(engine->get()) : std::vector<int32_t>{};
  };
  const std::vector<int32_t> tokens = answer({});
  EXPECT_EQ(tokens.size(), 8u);
  EXPECT_EQ(maker.loads(), 1);
  EXPECT_EQ(answer({"--max-num-batched-tokens=256", "--max-num-seqs=4"}), tokens);
  EXPECT_EQ(answer({"--enforce-eager"}), tokens);
  EXPECT_EQ(answer({"--additional-config.weight_prefetch_config.enabled=true"}), tokens);
  EXPECT_EQ(maker.loads(), 1);
  answer({"--quantization=int8"});
  EXPECT_EQ(maker.loads(), 2);
  EXPECT_EQ(answer({}), tokens);  // kept beside the others
  answer({"--quantization=int8"});
  EXPECT_EQ(maker.loads(), 2);
}

TEST(EngineMaker, LimitsAreTheConfigs) {
  EngineMaker maker(kModel, {}, nullptr);
  const auto engine = maker.Make(Config({"--max-num-batched-tokens=64", "--max-num-seqs=2"}));
  ASSERT_TRUE(engine) << engine.error();
  EXPECT_EQ((*engine)->options().max_num_batched_tokens, 64);
  EXPECT_EQ((*engine)->options().max_num_seqs, 2);
}

TEST(EngineMaker, WhatCannotRunIsAnError) {
  EngineMaker maker(kModel, {}, nullptr);
  EXPECT_EQ(maker.Make(Config({"--max-num-batched-tokens=4", "--max-num-seqs=8"})).error().code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(maker.Make(Config({})));
}

}  // namespace
}  // namespace tiercel::serving
