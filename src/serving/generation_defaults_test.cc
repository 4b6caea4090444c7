#include "serving/generation_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

checkpoint::GenerationConfig Qwen3() {
  checkpoint::GenerationConfig config;
  config.temperature = 0.6;
  config.top_k = 20;
  config.top_p = 0.95;
  config.eos_token_ids = {151645, 151643};
  return config;
}

TEST(GenerationDefaults, ComeFromTheModel) {
  const auto resolved = ResolveGeneration({}, Qwen3());
  ASSERT_TRUE(resolved);
  EXPECT_FLOAT_EQ(*resolved->defaults.temperature, 0.6f);
  EXPECT_EQ(resolved->defaults.top_k, 20);
  EXPECT_THAT(resolved->eos_token_ids, ElementsAre(151645, 151643));
  EXPECT_EQ(resolved->description, "{'temperature': 0.6, 'top_k': 20, 'top_p': 0.95}");
}

TEST(GenerationDefaults, VllmMeansNone) {
  const auto resolved = ResolveGeneration({"vllm", "{}"}, Qwen3());
  ASSERT_TRUE(resolved);
  EXPECT_FALSE(resolved->defaults.temperature);
  EXPECT_EQ(resolved->description, "");
}

TEST(GenerationDefaults, OverridesWin) {
  const auto resolved =
      ResolveGeneration({"auto", R"({"temperature": 0.1, "max_new_tokens": 7})"}, Qwen3());
  ASSERT_TRUE(resolved);
  EXPECT_FLOAT_EQ(*resolved->defaults.temperature, 0.1f);
  EXPECT_EQ(resolved->defaults.max_new_tokens, 7);
  EXPECT_EQ(resolved->defaults.top_k, 20);
}

TEST(GenerationDefaults, AMissingFolderIsNamed) {
  const auto resolved = ResolveGeneration({"/nowhere", "{}"}, Qwen3());
  ASSERT_FALSE(resolved);
  EXPECT_THAT(resolved.error().message(), HasSubstr("/nowhere/generation_config.json"));
}

TEST(EosTokenIds, AreThoseOfAllFiles) {
  const std::vector<int32_t> end{151643}, turn{151645}, both{151645, 151643}, none;
  // Fine-tuned base models: only the tokenizer's file knows the turn's end.
  EXPECT_THAT(EosTokenIds(151645, end, end), ElementsAre(151645, 151643));
  EXPECT_THAT(EosTokenIds(151645, turn, both), ElementsAre(151645, 151643));
  EXPECT_THAT(EosTokenIds(std::nullopt, turn, both), ElementsAre(151645, 151643));
  EXPECT_THAT(EosTokenIds(std::nullopt, none, both), ElementsAre(151645, 151643));
  EXPECT_THAT(EosTokenIds(151643, turn, none), ElementsAre(151643, 151645));
  EXPECT_THAT(EosTokenIds(7, none, none), ElementsAre(7));
  EXPECT_THAT(EosTokenIds(std::nullopt, none, none), ElementsAre());
}

}  // namespace
}  // namespace tiercel::serving
