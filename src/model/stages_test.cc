#include "model/stages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tiercel::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

checkpoint::ModelConfig Qwen3(int64_t layers, int64_t hidden, int64_t heads, int64_t inner) {
  checkpoint::ModelConfig config;
  config.num_layers = layers;
  config.hidden_size = hidden;
  config.num_heads = heads;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.intermediate_size = inner;
  config.vocab_size = 151936;
  return config;
}

std::vector<int64_t> Sizes(const checkpoint::ModelConfig& config, const WeightOptions& options) {
  EXPECT_TRUE(CheckStages(config, options).ok());
  std::vector<int64_t> sizes;
  int64_t end = 0;
  for (int stage = 0; stage < options.stages; ++stage) {
    const Range layers = LayersOf(config, options, stage);
    EXPECT_EQ(layers.begin, end);
    end = layers.end;
    sizes.push_back(layers.size());
  }
  EXPECT_EQ(end, config.num_layers);
  return sizes;
}

// 0.6B: a layer has 1024 · (2 · 24 · 128 + 3 · 3072) = 15.7 M weights, the head 155.6 M, 9.9 layers. 32B: a layer
// 5120 · (2 · 72 · 128 + 3 · 25600) = 487.6 M, the head 777.9 M, 1.6 layers.
TEST(Stages, ReadAboutAsMuch) {
  const checkpoint::ModelConfig small = Qwen3(28, 1024, 16, 3072), large = Qwen3(64, 5120, 64, 25600);
  EXPECT_THAT(Sizes(small, {.stages = 1}), ElementsAre(28));
  EXPECT_THAT(Sizes(small, {.stages = 2}), ElementsAre(19, 9));  // (28 + 9.9) / 2 − 9.9 = 9.05
  EXPECT_THAT(Sizes(small, {.stages = 4}), ElementsAre(9, 9, 9, 1));  // 9.5 − 9.9: at least one
  EXPECT_THAT(Sizes(small, {.stages = 2, .head = checkpoint::Head::kHidden}), ElementsAre(14, 14));
  EXPECT_THAT(Sizes(large, {.stages = 2}), ElementsAre(33, 31));  // (64 + 1.6) / 2 − 1.6 = 31.2
  EXPECT_THAT(Sizes(large, {.stages = 4}), ElementsAre(16, 16, 17, 15));
  EXPECT_THAT(Sizes(Qwen3(3, 1024, 16, 3072), {.stages = 3}), ElementsAre(1, 1, 1));
}

TEST(Stages, TheUserMaySayHowMany) {
  const checkpoint::ModelConfig small = Qwen3(28, 1024, 16, 3072);
  EXPECT_THAT(Sizes(small, {.stages = 3, .stage_layers = {5, 3, 20}}), ElementsAre(5, 3, 20));
  EXPECT_THAT(CheckStages(small, {.stages = 2, .stage_layers = {5, 3}}).message(),
              HasSubstr("VLLM_PP_LAYER_PARTITION: found 8 layers in all, expected the model's 28"));
  EXPECT_THAT(CheckStages(small, {.stages = 29}).message(), HasSubstr("found 29, expected at most the model's 28 layers"));
}

}  // namespace
}  // namespace tiercel::model
