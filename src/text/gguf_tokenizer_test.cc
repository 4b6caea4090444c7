// Tokenizers made from the vocabularies that GGUF files carry, against Hugging Face's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/gguf_vocab.h"
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
  const std::string dir = std::string(TIERCEL_TEST_DATA) + "/tokenizer/qwen3-small";
  const Json json = Read("qwen3-small/tokenizer.json");
  constexpr int64_t kRows = 4096;
  const auto vocab = ReadGgufVocab(dir, kRows);
  ASSERT_TRUE(vocab) << vocab.error();
  EXPECT_EQ(vocab->model, "gpt2");
  EXPECT_EQ(vocab->pre, "qwen2");
  EXPECT_FALSE(vocab->add_bos);
  ASSERT_EQ(std::ssize(vocab->tokens), kRows);
  ASSERT_EQ(std::ssize(vocab->token_types), kRows);
  EXPECT_EQ(vocab->merges.size(), json["model"]["merges"].size());
  constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;
  EXPECT_EQ(vocab->tokens.back(), "[PAD4095]");
  EXPECT_EQ(vocab->token_types.back(), kUnused);
  std::map<size_t, int32_t> types;
  for (const auto& [token, id] : json["model"]["vocab"].items()) {
    EXPECT_EQ(vocab->tokens[id.get<size_t>()], token);
    types[id.get<size_t>()] = kNormal;
  }
  for (const auto& token : json["added_tokens"]) {
    EXPECT_EQ(vocab->tokens[token["id"].get<size_t>()], token["content"]);
    types[token["id"].get<size_t>()] = token["special"] ? kControl : kUserDefined;
  }
  for (const auto& [id, type] : types) EXPECT_EQ(vocab->token_types[id], type) << id;

  const auto tokenizer = Tokenizer::FromGguf(*vocab);
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  ExpectVectors(**tokenizer, Read("qwen3-small/vectors.json"));
  EXPECT_EQ((*tokenizer)->bos(), std::nullopt);
  EXPECT_THAT(ReadGgufVocab(dir, 10).error().message(), HasSubstr("expected at most as many as the embedding has rows (10)"));
}

// A tokenizer.json that GGUF cannot hold, or not so that the same tokenizer comes out.
TEST(GgufTokenizer, NamesWhatBecomesNoGgufVocabulary) {
  std::string dir = testing::TempDir() + "vocab_XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const Json good = Read("qwen3-small/tokenizer.json");
  const auto error = [&](const Json& change) {
    Json json = good;
    json.merge_patch(change);
    std::ofstream(dir + "/tokenizer.json") << json.dump();
    const auto vocab = ReadGgufVocab(dir, 4096);
    return vocab ? "no error, " + vocab->pre : vocab.error().message();
  };
  EXPECT_EQ(error(Json::object()), "no error, qwen2");
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true},
                           {"pretokenizers", nullptr}};
  EXPECT_EQ(error({{"pre_tokenizer", byte_level}, {"normalizer", nullptr}}), "no error, gpt-2");
  EXPECT_THAT(error({{"pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "always"}, {"pretokenizers", nullptr}}}}),
              HasSubstr("expected a byte-level BPE"));
  Json prefixed = byte_level;
  prefixed["add_prefix_space"] = true;
  EXPECT_THAT(error({{"pre_tokenizer", prefixed}, {"normalizer", nullptr}}), HasSubstr("in a way that has no name in GGUF here"));
  const Json end = {{"type", "TemplateProcessing"},
                    {"single", {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, {{"SpecialToken", {{"id", "<|endoftext|>"}, {"type_id", 0}}}}}},
                    {"pair", Json::array()},
                    {"special_tokens", {{"<|endoftext|>", {{"id", "<|endoftext|>"}, {"ids", {1, 2}}, {"tokens", {"a", "b"}}}}}}};
  EXPECT_THAT(error({{"post_processor", end}}), HasSubstr("post_processor: adds 2 tokens to a text"));
  std::filesystem::remove_all(dir);
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
