// Tokenizers made from the vocabularies that GGUF files carry, against Hugging Face's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace tiercel::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

Json Read(const std::string& name) {
  std::ifstream in(std::string(TIERCEL_TEST_DATA) + "/tokenizer/" + name);
  return Json::parse(in);
}

void ExpectVectors(const Tokenizer& tokenizer, const Json& vectors) {
  for (const auto& v : vectors["encode"]) {
    EXPECT_EQ(*tokenizer.Encode(v["text"].get<std::string>(), false),
              v["ids"].get<std::vector<int32_t>>())
        << v["text"];
  }
  for (const auto& v : vectors["decode"]) {
    EXPECT_EQ(tokenizer.Decode(v["ids"].get<std::vector<int32_t>>(), v["skip"].get<bool>()),
              v["text"].get<std::string>())
        << v["ids"] << ", skip: " << v["skip"];
  }
}

GgufVocab SentencePieceVocab(const Json& json) {
  GgufVocab vocab;
  vocab.model = "llama";
  vocab.tokens = json["tokens"].get<std::vector<std::string>>();
  vocab.scores = json["scores"].get<std::vector<float>>();
  vocab.token_types = json["token_types"].get<std::vector<int32_t>>();
  vocab.bos = json["bos"];
  vocab.eos = json["eos"];
  vocab.unknown = json["unknown"];
  return vocab;
}

TEST(GgufTokenizer, SentencePieceEqualsHuggingFace) {
  const Json data = Read("sentencepiece.json");
  const auto tokenizer = Tokenizer::FromGguf(SentencePieceVocab(data["vocab"]));
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  ASSERT_GE(data["encode"].size(), 60u);
  ASSERT_GE(data["decode"].size(), 120u);
  ExpectVectors(**tokenizer, data);
  EXPECT_EQ((*tokenizer)->bos(), 1);
  EXPECT_EQ((*tokenizer)->eos(), 2);
  EXPECT_TRUE((*tokenizer)->IsSpecial(2));
}

TEST(GgufTokenizer, SpacePrefixAndBosAreTheFilesChoice) {
  GgufVocab vocab = SentencePieceVocab(Read("sentencepiece.json")["vocab"]);
  vocab.add_bos = true;
  auto tokenizer = Tokenizer::FromGguf(vocab);
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  const auto piece = [&](const char* text) { return *(*tokenizer)->TokenToId(text); };
  EXPECT_THAT(*(*tokenizer)->Encode("the", true), ElementsAre(1, piece("▁the")));
  EXPECT_THAT(*(*tokenizer)->Encode("the", false), ElementsAre(piece("▁the")));
  // One space comes off, at the front of the text alone.
  const int32_t the = piece("▁the");
  EXPECT_EQ((*tokenizer)->Decode(std::vector{the, the}, true), "the the");
  EXPECT_EQ((*tokenizer)->Decode(std::vector{1, the}, true), "the");
  EXPECT_EQ((*tokenizer)->TokenBytes(the), " the");

  vocab.add_space_prefix = false;
  tokenizer = Tokenizer::FromGguf(vocab);
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  EXPECT_NE(*(*tokenizer)->Encode("the", false), (std::vector{the}));
  EXPECT_THAT(*(*tokenizer)->Encode(" the", false), ElementsAre(the));
  EXPECT_EQ((*tokenizer)->Decode(std::vector{the, the}, true), " the the");
}

// The same vocabulary as tokenizer.json and as a GGUF file has it gives the same tokens.
TEST(GgufTokenizer, ByteLevelEqualsTokenizerJson) {
  const Json json = Read("qwen3-small/tokenizer.json");
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = "qwen2";
  std::map<int32_t, std::string> spelled;
  for (const auto& [token, id] : json["model"]["vocab"].items()) spelled[id] = token;
  for (const auto& token : json["added_tokens"]) spelled[token["id"]] = token["content"];
  constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;
  for (const auto& [id, token] : spelled) {
    while (std::ssize(vocab.tokens) < id) {
      vocab.tokens.push_back("[PAD" + std::to_string(vocab.tokens.size()) + "]");
      vocab.token_types.push_back(kUnused);
    }
    vocab.tokens.push_back(token);
    vocab.token_types.push_back(kNormal);
  }
  for (const auto& token : json["added_tokens"]) {
    vocab.token_types[token["id"].get<size_t>()] = token["special"] ? kControl : kUserDefined;
  }
  for (const auto& merge : json["model"]["merges"]) {
    vocab.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                             : merge[0].get<std::string>() + " " +
                                                   merge[1].get<std::string>());
  }
  const auto tokenizer = Tokenizer::FromGguf(vocab);
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  ExpectVectors(**tokenizer, Read("qwen3-small/vectors.json"));
  EXPECT_EQ((*tokenizer)->bos(), std::nullopt);
}

TEST(GgufTokenizer, NamesWhatItCannotUse) {
  const auto error = [](GgufVocab vocab) {
    const auto tokenizer = Tokenizer::FromGguf(vocab);
    EXPECT_FALSE(tokenizer);
    return tokenizer ? "" : tokenizer.error().message();
  };
  GgufVocab vocab;
  vocab.model = "gpt2";
  EXPECT_THAT(error(vocab), HasSubstr("tokenizer.ggml.tokens"));
  vocab.tokens = {"a", "b"};
  vocab.pre = "unheard-of";
  EXPECT_THAT(error(vocab), HasSubstr("\"unheard-of\""));
  vocab.pre = "qwen2";
  vocab.merges = {"a c"};
  EXPECT_THAT(error(vocab), HasSubstr("tokenizer.ggml"));
  vocab.merges = {};
  vocab.model = "rwkv";
  EXPECT_THAT(error(vocab), HasSubstr("\"rwkv\""));
}

// What is made of a vocabulary grows with the square of its tokens' length.
TEST(GgufTokenizer, VocabulariesAreBounded) {
  GgufVocab vocab;
  vocab.model = "llama";
  vocab.tokens = {"a", std::string(1025, 'a')};
  EXPECT_THAT(Tokenizer::FromGguf(vocab).error().message(),
              HasSubstr("found 1025 bytes for token 1, expected at most 1024"));
  // Every token can be put together from two others in as many ways as it has letters.
  vocab.tokens.clear();
  for (const char letter : std::string("abcdefghijklmnop")) {
    for (size_t n = 1; n <= 1024; ++n) vocab.tokens.emplace_back(n, letter);
  }
  EXPECT_THAT(Tokenizer::FromGguf(vocab).error().message(), HasSubstr("can be put together"));
  vocab.tokens.assign(40000, std::string(1024, 'a'));
  EXPECT_THAT(Tokenizer::FromGguf(vocab).error().message(),
              HasSubstr("found 40960000 bytes, expected at most 33554432"));
  vocab.tokens = {"a"};
  vocab.model = std::string(1000, 'x');
  EXPECT_LT(Tokenizer::FromGguf(vocab).error().message().size(), 200u);
  vocab.model = "gpt2";
  vocab.pre = std::string(1000, 'x');
  EXPECT_LT(Tokenizer::FromGguf(vocab).error().message().size(), 300u);
}

}  // namespace
}  // namespace tiercel::text
