#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tiercel::text {
namespace {

const std::string kSmall = TIERCEL_TEST_DATA "/tokenizer/qwen3-small";

TEST(Tokenizer, EqualsHuggingFace) {
  auto tokenizer = Tokenizer::Load(kSmall);
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  std::ifstream in(kSmall + "/vectors.json");
  const auto vectors = nlohmann::json::parse(in);
  ASSERT_GE(vectors["encode"].size(), 60u);
  for (const auto& v : vectors["encode"]) {
    EXPECT_EQ((*tokenizer)->Encode(v["text"].get<std::string>(), false),
              v["ids"].get<std::vector<int32_t>>())
        << v["text"];
  }
  ASSERT_GE(vectors["decode"].size(), 60u);
  for (const auto& v : vectors["decode"]) {
    EXPECT_EQ((*tokenizer)->Decode(v["ids"].get<std::vector<int32_t>>(), v["skip"].get<bool>()),
              v["text"].get<std::string>())
        << v["ids"];
  }
}

TEST(Tokenizer, UnknownIdsDecodeToNothing) {
  auto tokenizer = Tokenizer::Load(kSmall);
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  const auto size = static_cast<int32_t>((*tokenizer)->vocab_size());
  EXPECT_EQ((*tokenizer)->Decode(std::vector<int32_t>{-1, size, 1 << 30}, false), "");
  EXPECT_TRUE((*tokenizer)->TokenBytes(size).empty());
  EXPECT_TRUE((*tokenizer)->TokenString(-1).empty());
}

}  // namespace
}  // namespace tiercel::text
