#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/ffi_bytes.h"

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
    EXPECT_EQ(*(*tokenizer)->Encode(v["text"].get<std::string>(), false),
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

// Against a tokenizer of the same file without added tokens, alone and between real ones.
TEST(Tokenizer, MarkedTextHasNoAddedTokens) {
  auto tokenizer = Tokenizer::Load(kSmall, {.split_special_tokens = true});
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  const Tokenizer& t = **tokenizer;
  std::ifstream in(kSmall + "/vectors.json");
  const auto vectors = nlohmann::json::parse(in);
  ASSERT_GE(vectors["plain"].size(), 40u);
  const int32_t begin = *t.TokenToId("<|im_start|>"), end = *t.TokenToId("<|im_end|>");
  for (const auto& v : vectors["plain"]) {
    const auto text = v["text"].get<std::string>();
    auto ids = v["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(*t.Encode(t.Marked(text), false), ids) << text;
    ids.insert(ids.begin(), begin);
    ids.push_back(end);
    EXPECT_EQ(*t.Encode("<|im_start|>" + t.Marked(text) + "<|im_end|>", false), ids) << text;
    // The mark itself holds nothing together.
    EXPECT_EQ(t.Decode(*t.Encode(t.Marked("\uFDD0" + text), false), false), t.Decode(v["ids"].get<std::vector<int32_t>>(), false));
  }
  // What is not marked is as ever.
  for (const auto& v : vectors["encode"]) {
    EXPECT_EQ(*t.Encode(v["text"].get<std::string>(), false), v["ids"].get<std::vector<int32_t>>());
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

// Files that a stranger wrote.
class StrangeTokenizer : public testing::Test {
 protected:
  using Json = nlohmann::json;

  void SetUp() override {
    std::string name = testing::TempDir() + "tokenizer_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    std::ifstream in(kSmall + "/tokenizer.json");
    good_ = Json::parse(in);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Expected<std::shared_ptr<const Tokenizer>> Load(std::string_view tokenizer,
                                                  std::string_view config = "") {
    std::ofstream(folder_ + "/tokenizer.json") << tokenizer;
    if (!config.empty()) std::ofstream(folder_ + "/tokenizer_config.json") << config;
    return Tokenizer::Load(folder_);
  }
  std::string Error(std::string_view tokenizer) {
    const auto loaded = Load(tokenizer);
    if (loaded) return "no error";
    EXPECT_EQ(loaded.error().message().find('\n'), std::string::npos);
    return loaded.error().message();
  }

  std::string folder_;
  Json good_;
};

TEST_F(StrangeTokenizer, WhatIsNoTokenizerIsNamed) {
  using testing::HasSubstr;
  EXPECT_THAT(Error(""), HasSubstr("tokenizer.json"));
  EXPECT_THAT(Error("{}"), HasSubstr("tokenizer.json"));
  EXPECT_THAT(Error("version https://git-lfs.github.com/spec/v1\nsize 7\n"), HasSubstr("LFS pointer"));
  EXPECT_THAT(Error("<!DOCTYPE html>"), HasSubstr("HTML page"));
  EXPECT_THAT(Error(std::string(1 << 20, '[')), HasSubstr("tokenizer.json"));
  EXPECT_THAT(Error("{\"added_tokens\": " + std::string(1 << 20, '[')), HasSubstr("tokenizer.json"));
  const std::string text = good_.dump();
  for (size_t size = 0; size < text.size(); size += 997) {
    EXPECT_NE(Error(std::string_view(text).substr(0, size)), "no error") << size;
  }
  std::filesystem::resize_file(folder_ + "/tokenizer.json", uint64_t{1} << 40);
  EXPECT_THAT(Tokenizer::Load(folder_).error().message(),
              HasSubstr("found 1099511627776 bytes, expected at most 67108864"));
}

TEST_F(StrangeTokenizer, IdsAreBounded) {
  for (const uint32_t id : {8u << 20, 0x7fffffffu, 0xffffffffu}) {
    Json file = good_;
    file["model"]["vocab"]["zzzz"] = id;
    EXPECT_THAT(Error(file.dump()), testing::HasSubstr(fmt::format(
                                        "found the id {}, expected less than 8388608", id)));
  }
}

// Rules that make a long text of a short one multiply.
TEST_F(StrangeTokenizer, TextsDoNotGrowWithoutBound) {
  const auto replace = [](const std::string& with) {
    return Json{{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", with}};
  };
  Json file = good_;
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  for (int i = 0; i < 70; ++i) file["normalizer"]["normalizers"].push_back(replace("aa"));
  EXPECT_THAT(Error(file.dump()), testing::HasSubstr("normalizer: its rules can make a text"));
  file["normalizer"] = replace(std::string(1000, 'a'));
  EXPECT_THAT(Error(file.dump()), testing::HasSubstr("1001 times as long, expected at most 256"));
  file["normalizer"] = replace("\u2581");
  EXPECT_EQ(Error(file.dump()), "no error");
}

TEST_F(StrangeTokenizer, MarksAreRefusedWhereTheyHoldNothingOff) {
  const auto split = [this](const Json& token) {
    Json file = good_;
    file["added_tokens"].push_back(token);
    EXPECT_EQ(Error(file.dump()), "no error");
    const auto tokenizer = Tokenizer::Load(folder_, {.split_special_tokens = true});
    return tokenizer ? "no error" : tokenizer.error().message();
  };
  Json token = good_["added_tokens"].back();
  token["id"] = token["id"].get<int>() + 1;
  token["content"] = "<x>";
  EXPECT_EQ(split(token), "no error");
  token["normalized"] = true;
  EXPECT_THAT(split(token), testing::HasSubstr("\"<x>\", is looked for in normalized text"));
  token["normalized"] = false;
  token["content"] = "\u2603";
  EXPECT_THAT(split(token), testing::HasSubstr("one character"));
}

// Every text that a client sends must end in tokens or in an error.
TEST_F(StrangeTokenizer, TextsThatCannotBeEncodedAreErrors) {
  Json file = good_;
  file["normalizer"] = file["pre_tokenizer"] = file["post_processor"] = file["decoder"] = nullptr;
  file["added_tokens"] = Json::array();
  file["model"] = {{"type", "WordLevel"}, {"vocab", {{"a", 0}, {"b", 1}}}, {"unk_token", "<unk>"}};
  const auto words = Load(file.dump());
  ASSERT_TRUE(words) << words.error();
  EXPECT_EQ(*(*words)->Encode("a", false), std::vector{0});
  const auto unknown = (*words)->Encode("c", false);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(unknown.error().message(),
              testing::StartsWith("The model's tokenizer cannot encode this text: "));

  file["model"] = {{"type", "BPE"}, {"vocab", {{"a", 0}}}, {"merges", Json::array()},
                   {"unk_token", "<unk>"}};
  const auto bpe = Load(file.dump());
  ASSERT_TRUE(bpe) << bpe.error();
  EXPECT_FALSE((*bpe)->Encode("b", false));
  EXPECT_EQ(*(*bpe)->Encode("a", false), std::vector{0});
}

// A tokenizer that no text can be given to is refused when it is read.
TEST_F(StrangeTokenizer, IsTriedWhenItIsRead) {
  using testing::HasSubstr;
  const auto with = [this](const char* part, const Json& value) {
    Json file = good_;
    file[part] = value;
    return Error(file.dump());
  };
  const auto around = [](const Json& ids, const char* used) {
    return Json{{"type", "TemplateProcessing"},
                {"single", {{{"SpecialToken", {{"id", used}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                {"pair", Json::array()},
                {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", ids}, {"tokens", Json::array({"<s>"})}}}}}};
  };
  const std::string file = "/tokenizer.json: ";
  EXPECT_EQ(with("post_processor", around({0}, "<s>")), "no error");
  EXPECT_THAT(with("post_processor", around({0}, "<t>")),
              HasSubstr(file + "post_processor.single: found the token \"<t>\", expected one of special_tokens"));
  for (const uint32_t id : {1u << 20, 0x80000000u, 0xffffffffu}) {
    EXPECT_THAT(with("post_processor", around({id}, "<s>")),
                HasSubstr(fmt::format("{}post_processor: found the id {} for the token \"<s>\", expected one of", file, id)));
  }
  const Json list = {{"type", "Sequence"}, {"processors", Json::array({around({1u << 20}, "<s>")})}};
  EXPECT_THAT(with("post_processor", list), HasSubstr(file + "post_processor: found the id 1048576"));
  const Json bert = {{"type", "BertProcessing"}, {"sep", {"</s>", 1u << 20}}, {"cls", {"<s>", 0}}};
  EXPECT_THAT(with("post_processor", bert), HasSubstr("found the id 1048576 for the token \"</s>\""));
  Json none = around({0}, "<s>");
  none["single"].erase(1);
  EXPECT_THAT(with("post_processor", none), HasSubstr("post_processor.single: found no Sequence"));
  EXPECT_THAT(with("pre_tokenizer", {{"type", "FixedLength"}, {"length", 0}}), HasSubstr(file + "pre_tokenizer: fails on a text"));
  const Json empty = {{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}};
  EXPECT_THAT(with("model", empty), HasSubstr(file + "model.vocab: found no token, expected the vocabulary"));
  const Json nothing = {{"type", "Replace"}, {"pattern", {{"Regex", "(?s)."}}}, {"content", ""}};
  EXPECT_THAT(with("normalizer", nothing), HasSubstr(file + "model: makes no token of any text"));
}

// The library panics at these.
TEST_F(StrangeTokenizer, APanicOfTheReaderIsOneLine) {
  for (const Json& map : {Json(nullptr), Json("AAAA"), Json(7)}) {
    Json file = good_;
    file["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", map}};
    testing::internal::CaptureStderr();
    EXPECT_THAT(Error(file.dump()), testing::HasSubstr("/tokenizer.json: normalizer: cannot be read: ")) << map;
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  }
}

// A pattern that takes a step more for every way to split a text ends all the same.
TEST_F(StrangeTokenizer, PatternsThatGoBackEndlessly) {
  Json file = good_;
  file["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(?:(x+x+)+(?=y)|z)"}}},
                           {"behavior", "Isolated"}, {"invert", false}};
  const auto tokenizer = Load(file.dump());
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  (void)(*tokenizer)->Encode(std::string(200, 'x'), false);
}

TEST_F(StrangeTokenizer, TheConfigurationIsASupplement) {
  for (const char* config : {"[]", "nonsense", R"({"added_tokens_decoder":[1,2]})",
                             R"({"eos_token":{"content":7},"bos_token":[]})"}) {
    const auto tokenizer = Load(good_.dump(), config);
    if (!tokenizer) continue;
    EXPECT_EQ((*tokenizer)->eos(), std::nullopt) << config;
  }
  const auto tokenizer =
      Load(good_.dump(), R"({"eos_token":{"content":"<|im_end|>"},"bos_token":null})");
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  EXPECT_EQ((*tokenizer)->eos(), (*tokenizer)->TokenToId("<|im_end|>"));
  EXPECT_TRUE((*tokenizer)->eos().has_value());
}

// A panic of the Rust library ends at its border.
TEST(Tokenizer, APanicBecomesAnEmptyAnswer) {
  std::ifstream in(kSmall + "/tokenizer.json", std::ios::binary);
  const std::string json((std::istreambuf_iterator<char>(in)), {});
  FfiBytes error;
  TiercelTokenizer* tokenizer =
      tiercel_tokenizer_from_json(FfiData(json), json.size(), nullptr, 0, error.out());
  ASSERT_NE(tokenizer, nullptr) << error.text();
  const TiercelTokenView view =
      tiercel_tokenizer_token(tokenizer, tiercel_tokenizer_size(tokenizer) + 1);
  EXPECT_EQ(view.spelling_size, 0u);
  EXPECT_EQ(view.bytes, nullptr);
  tiercel_tokenizer_free(tokenizer);
}

}  // namespace
}  // namespace tiercel::text
