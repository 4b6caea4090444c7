// Which tensor gets which type, against the Q4_K_M file that llama.cpp made of Qwen2.5-Coder-0.5B-Instruct.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "quantize/gguf_recipe.h"

namespace tiercel::quantize {
namespace {

using checkpoint::GgufTensorType;
using checkpoint::ModelConfig;

constexpr int64_t kHiddenSize = 896, kInnerSize = 4864, kLayers = 24;

GgufTensorType InCoder(const std::string& scheme, const std::string& linear, int64_t k, bool tied = false) {
  ModelConfig config;
  config.num_layers = kLayers;
  config.tie_word_embeddings = tied;
  return TypeOf(*FindGgufScheme(scheme), config, linear, k);
}

std::string InLayer(int64_t layer, const char* name) { return fmt::format("model.layers.{}.{}", layer, name); }

// The file's tensors stood in the order of their names as text (0, 1, 10, 11, …), by which llama.cpp counted layers.
TEST(GgufRecipe, LayersOfMoreBitsAreThoseOfLlamaCpp) {
  const std::set<int64_t> in_file = {0, 1, 3, 6, 7, 8, 9, 10, 13, 16, 19, 21};
  std::vector<std::string> order;
  for (int64_t layer = 0; layer < kLayers; ++layer) order.push_back(std::to_string(layer));
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < kLayers; ++i) {
    EXPECT_EQ(NeedsMoreBits(i, kLayers), in_file.count(std::stoll(order[static_cast<size_t>(i)])) == 1) << i;
  }
}

TEST(GgufRecipe, TypesAreThoseOfLlamaCpp) {
  EXPECT_EQ(InCoder("q4_k_m", "lm_head", kHiddenSize), GgufTensorType::kQ8_0);
  EXPECT_EQ(InCoder("q4_k_m", "model.embed_tokens", kHiddenSize), GgufTensorType::kQ5_0);
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"}) {
    EXPECT_EQ(InCoder("q4_k_m", InLayer(0, name), kHiddenSize), GgufTensorType::kQ5_0);
  }
  EXPECT_EQ(InCoder("q4_k_m", InLayer(0, "self_attn.v_proj"), kHiddenSize), GgufTensorType::kQ8_0);
  EXPECT_EQ(InCoder("q4_k_m", InLayer(0, "mlp.down_proj"), kInnerSize), GgufTensorType::kQ6_K);
  EXPECT_EQ(InCoder("q4_k_m", InLayer(4, "self_attn.v_proj"), kHiddenSize), GgufTensorType::kQ5_0);
  EXPECT_EQ(InCoder("q4_k_m", InLayer(4, "mlp.down_proj"), kInnerSize), GgufTensorType::kQ4_K);
}

TEST(GgufRecipe, WhatIsNoWholeBlock) {
  EXPECT_EQ(InCoder("q5_k_m", InLayer(0, "mlp.up_proj"), kHiddenSize), GgufTensorType::kQ5_1);
  EXPECT_EQ(InCoder("q6_k", InLayer(0, "mlp.up_proj"), kHiddenSize), GgufTensorType::kQ8_0);
  EXPECT_EQ(InCoder("q4_0", InLayer(0, "mlp.up_proj"), kHiddenSize), GgufTensorType::kQ4_0);
  EXPECT_EQ(InCoder("q4_0", "model.embed_tokens", 256, /*tied=*/true), GgufTensorType::kQ6_K);
  EXPECT_EQ(InCoder("q8_0", "lm_head", 256), GgufTensorType::kQ8_0);
  EXPECT_EQ(InCoder("q4_k_m", InLayer(0, "mlp.up_proj"), 80), GgufTensorType::kBF16);
  EXPECT_EQ(FindGgufScheme("q2_k"), nullptr);
}

}  // namespace
}  // namespace tiercel::quantize
