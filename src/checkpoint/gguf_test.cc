// GGUF files: the parser, dequantization, configuration, tokenizer data and broken files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numbers>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_types.h"
#include "platform/mapped_file.h"

namespace tiercel::checkpoint {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Writes the format by hand, lies included.
class Builder {
 public:
  template <typename T>
  static std::string Raw(T value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  static std::string Text(std::string_view text) {
    return Raw<uint64_t>(text.size()) + std::string(text);
  }
  static std::string Strings(const std::vector<std::string>& values) {
    std::string raw = Raw<uint32_t>(8) + Raw<uint64_t>(values.size());
    for (const std::string& value : values) raw += Text(value);
    return raw;
  }

  Builder& Entry(const std::string& key, uint32_t type, const std::string& value) {
    entries_.push_back(Text(key) + Raw(type) + value);
    return *this;
  }
  Builder& U32(const std::string& key, uint32_t value) { return Entry(key, 4, Raw(value)); }
  Builder& F32(const std::string& key, float value) { return Entry(key, 6, Raw(value)); }
  Builder& Str(const std::string& key, const std::string& value) {
    return Entry(key, 8, Text(value));
  }
  Builder& Array(const std::string& key, const std::string& value) { return Entry(key, 9, value); }

  // `dimensions` with the fastest first, as in the file.
  Builder& TensorAt(const std::string& name, std::vector<uint64_t> dimensions, uint32_t type,
                    uint64_t offset) {
    std::string raw = Text(name) + Raw(static_cast<uint32_t>(dimensions.size()));
    for (uint64_t d : dimensions) raw += Raw(d);
    tensors_.push_back(raw + Raw(type) + Raw(offset));
    return *this;
  }
  Builder& Tensor(const std::string& name, std::vector<uint64_t> dimensions,
                  const std::vector<float>& values) {
    TensorAt(name, std::move(dimensions), 0, data_.size());
    for (float value : values) data_ += Raw(value);
    data_.resize((data_.size() + 31) / 32 * 32);
    return *this;
  }
  Builder& Data(size_t bytes) {
    data_.append(bytes, '\0');
    return *this;
  }

  std::string Build(uint32_t version = 3) const {
    std::string file =
        "GGUF" + Raw(version) + Raw<uint64_t>(tensors_.size()) + Raw<uint64_t>(entries_.size());
    for (const std::string& entry : entries_) file += entry;
    for (const std::string& tensor : tensors_) file += tensor;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data_;
  }

 private:
  std::vector<std::string> entries_, tensors_;
  std::string data_;
};

std::span<const uint8_t> Span(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string ParseError(const std::string& file) {
  const auto parsed = GgufFile::Parse(Span(file), "m.gguf");
  if (parsed) return "no error";
  EXPECT_EQ(parsed.error().message().find('\n'), std::string::npos);
  return parsed.error().message();
}

// --- Dequantization against the gguf package ------------------------------------------------

TEST(GgufTypes, DequantizeAsTheGgufPackageDoes) {
  const std::string path = std::string(TIERCEL_TEST_DATA) + "/gguf/blocks.gguf";
  const auto file = platform::MappedFile::Open(path);
  ASSERT_TRUE(file) << file.error();
  const auto parsed = GgufFile::Parse(file->bytes(), path);
  ASSERT_TRUE(parsed) << parsed.error();
  int types = 0;
  for (const auto& [name, tensor] : parsed->tensors()) {
    if (name.ends_with(".expected")) continue;
    ++types;
    EXPECT_EQ(GgufTypeName(tensor.type), name);
    ASSERT_THAT(tensor.shape, ElementsAre(2, 512));
    std::vector<float> actual(1024), expected(1024);
    Dequantize(static_cast<GgufTensorType>(tensor.type), file->bytes().data() + tensor.begin, 1024,
               actual.data());
    const GgufTensor& golden = parsed->tensors().find(name + ".expected")->second;
    Dequantize(GgufTensorType::kF32, file->bytes().data() + golden.begin, 1024, expected.data());
    for (size_t i = 0; i < 1024; ++i) ASSERT_EQ(actual[i], expected[i]) << name << " " << i;
  }
  EXPECT_EQ(types, 10);
}

TEST(GgufTypes, NamesTypesThatCannotBeRead) {
  EXPECT_THAT(GgufBlockOf(10).error().message(),
              AllOf(HasSubstr("found type Q2_K"), HasSubstr("Q4_K, Q5_K, Q6_K")));
  EXPECT_THAT(GgufBlockOf(77).error().message(), HasSubstr("found type type 77"));
}

// --- The parser ------------------------------------------------------------------------------

TEST(GgufFile, ReadsEveryKindOfValue) {
  Builder b;
  b.Entry("u8", 0, Builder::Raw<uint8_t>(200)).Entry("i8", 1, Builder::Raw<int8_t>(-3));
  b.Entry("u16", 2, Builder::Raw<uint16_t>(60000)).Entry("i16", 3, Builder::Raw<int16_t>(-300));
  b.Entry("i32", 5, Builder::Raw<int32_t>(-70000)).Entry("bool", 7, Builder::Raw<uint8_t>(1));
  b.Entry("u64", 10, Builder::Raw<uint64_t>(UINT64_MAX))
      .Entry("i64", 11, Builder::Raw<int64_t>(-5));
  b.Entry("f64", 12, Builder::Raw<double>(0.5)).F32("f32", 1.5f).U32("u32", 7).Str("s", "héllo");
  b.Array("strings", Builder::Strings({"a", "", "ccc"}));
  b.Array("ints", Builder::Raw<uint32_t>(5) + Builder::Raw<uint64_t>(2) +
                      Builder::Raw<int32_t>(-1) + Builder::Raw<int32_t>(9));
  b.Tensor("t", {2, 3}, {1, 2, 3, 4, 5, 6}).Tensor("u", {1}, {9});
  const std::string file = b.Build();
  const auto parsed = GgufFile::Parse(Span(file), "f");
  ASSERT_TRUE(parsed) << parsed.error();
  EXPECT_EQ(parsed->Int("u8"), 200);
  EXPECT_EQ(parsed->Int("i8"), -3);
  EXPECT_EQ(parsed->Int("u16"), 60000);
  EXPECT_EQ(parsed->Int("i16"), -300);
  EXPECT_EQ(parsed->Int("u32"), 7);
  EXPECT_EQ(parsed->Int("i32"), -70000);
  EXPECT_EQ(parsed->Int("u64"), INT64_MAX);
  EXPECT_EQ(parsed->Int("i64"), -5);
  EXPECT_EQ(parsed->Number("f32"), 1.5);
  EXPECT_EQ(parsed->Number("f64"), 0.5);
  EXPECT_EQ(parsed->Number("u32"), 7);
  EXPECT_EQ(parsed->Bool("bool"), true);
  EXPECT_EQ(parsed->String("s"), "héllo");
  EXPECT_EQ(parsed->Int("s"), std::nullopt);
  EXPECT_EQ(parsed->Int("missing"), std::nullopt);
  EXPECT_THAT(*GgufFile::Strings(*parsed->Array("strings"), 3), ElementsAre("a", "", "ccc"));
  EXPECT_THAT(*GgufFile::Numbers(*parsed->Array("ints"), 2), ElementsAre(-1, 9));
  EXPECT_EQ(GgufFile::Strings(*parsed->Array("strings"), 2), std::nullopt);
  EXPECT_EQ(GgufFile::Numbers(*parsed->Array("ints"), 1), std::nullopt);
  EXPECT_EQ(GgufFile::Strings(*parsed->Array("ints"), 9), std::nullopt);
  EXPECT_EQ(GgufFile::Numbers(*parsed->Array("strings"), 9), std::nullopt);
  const GgufTensor& t = parsed->tensors().find("t")->second;
  EXPECT_THAT(t.shape, ElementsAre(3, 2));  // slowest first
  EXPECT_EQ(t.end - t.begin, 24u);
  EXPECT_EQ(ParseError(b.Build(2)), "no error");
}

TEST(GgufFile, RefusesLies) {
  EXPECT_THAT(ParseError(Builder().Build(1)), HasSubstr("found GGUF version 1, expected 2 or 3"));
  EXPECT_THAT(ParseError(Builder().Build(3u << 24)), HasSubstr("the file is big-endian"));
  EXPECT_THAT(ParseError("version https://git-lfs.github.com/spec/v1\nsize 77\n"),
              AllOf(HasSubstr("is not a GGUF file"), HasSubstr("(expected 77 bytes)")));
  EXPECT_THAT(ParseError("<html>"), HasSubstr("HTML page"));
  EXPECT_THAT(ParseError("GGUF"), HasSubstr("is truncated: found 4 bytes"));

  const std::string good = Builder().Tensor("t", {32}, std::vector<float>(32)).Build();
  EXPECT_EQ(ParseError(good), "no error");
  EXPECT_EQ(ParseError(good.substr(0, good.size() - 1)),
            fmt::format("m.gguf: is truncated: found {} bytes, expected {}; the download is "
                        "incomplete",
                        good.size() - 1, good.size()));
  const auto tensor = [](std::vector<uint64_t> dimensions, uint32_t type, uint64_t offset) {
    return ParseError(
        Builder().TensorAt("t", std::move(dimensions), type, offset).Data(4096).Build());
  };
  EXPECT_THAT(tensor({1, 1, 1, 1, 1}, 0, 0), HasSubstr("has 5 dimensions"));
  EXPECT_THAT(tensor({0}, 0, 0), HasSubstr("has the dimension 0"));
  EXPECT_THAT(tensor({uint64_t{1} << 60}, 0, 0), HasSubstr("has the dimension"));
  EXPECT_THAT(tensor({uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0),
              HasSubstr("an impossible size"));
  EXPECT_THAT(tensor({32}, 0, UINT64_MAX - 31), HasSubstr("an impossible size"));
  EXPECT_THAT(tensor({32}, 0, uint64_t{1} << 62), HasSubstr("is truncated"));
  EXPECT_THAT(tensor({32}, 0, 8), HasSubstr("expected a multiple of 32"));
  EXPECT_THAT(tensor({33}, 8, 0), HasSubstr("rows of 33, expected a multiple of 32"));
  EXPECT_THAT(tensor({256}, 10, 0), HasSubstr("tensor \"t\": found type Q2_K"));
  EXPECT_THAT(
      ParseError(Builder().TensorAt("a", {16}, 0, 0).TensorAt("b", {16}, 0, 32).Data(96).Build()),
      HasSubstr("tensor \"b\" begins at byte 32 of the data, expected a multiple of 32 from "
                "64"));
  EXPECT_THAT(
      ParseError(Builder().TensorAt("a", {8}, 0, 0).TensorAt("a", {8}, 0, 32).Data(64).Build()),
      HasSubstr("is there twice"));
  EXPECT_THAT(ParseError(Builder().U32("k", 1).U32("k", 2).Build()), HasSubstr("is there twice"));
  EXPECT_THAT(ParseError(Builder().U32("general.alignment", 3).Build()),
              HasSubstr("a power of two"));
  EXPECT_THAT(ParseError(Builder().U32("general.alignment", 0).Build()),
              HasSubstr("a power of two"));
  EXPECT_THAT(ParseError(Builder().Entry("k", 99, "").Build()), HasSubstr("has type 99"));
  EXPECT_THAT(ParseError(Builder().Entry("k", 8, Builder::Raw<uint64_t>(1 << 20)).Build()),
              HasSubstr("is truncated"));
  EXPECT_THAT(ParseError(Builder().Entry("k", 8, Builder::Raw<uint64_t>(1 << 30)).Build()),
              HasSubstr("found a string of 1073741824 bytes, expected at most 16777216"));
  for (uint32_t element : {4u, 8u, 12u}) {
    EXPECT_THAT(
        ParseError(Builder()
                       .Array("k", Builder::Raw(element) + Builder::Raw<uint64_t>(UINT64_MAX / 2))
                       .Build()),
        HasSubstr("is truncated"));
  }
  EXPECT_THAT(
      ParseError(
          Builder().Array("k", Builder::Raw<uint32_t>(9) + Builder::Raw<uint64_t>(1)).Build()),
      HasSubstr("an array of type 9"));
  std::string many = Builder().Build();
  const uint64_t lie = UINT64_MAX;
  std::memcpy(many.data() + 8, &lie, 8);
  EXPECT_THAT(ParseError(many), HasSubstr("tensors, expected at most"));
  // Every cut of a small file is refused, none is read past its end.
  const std::string file = Builder()
                               .Str("a", "b")
                               .Array("c", Builder::Strings({"d", "e"}))
                               .Tensor("t", {8}, std::vector<float>(8))
                               .Build();
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_NE(ParseError(file.substr(0, size)), "no error") << size;
  }
}

// --- A whole small model ---------------------------------------------------------------------

class GgufModel : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "gguf_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Two heads of 8, one KV head, hidden 16; tensor elements count up from `start`.
  static Builder Model(const std::string& a) {
    Builder b;
    b.Str("general.architecture", a).U32(a + ".embedding_length", 16).U32(a + ".block_count", 1);
    b.U32(a + ".attention.head_count", 2).U32(a + ".attention.head_count_kv", 1);
    b.U32(a + ".feed_forward_length", 32).U32(a + ".context_length", 4096);
    b.F32(a + ".attention.layer_norm_rms_epsilon", 1e-5f).F32(a + ".rope.freq_base", 1e6f);
    b.Tensor("token_embd.weight", {16, 4}, Count(64));
    b.Tensor("blk.0.attn_q.weight", {16, 16}, Count(256));
    b.Tensor("blk.0.attn_k.weight", {16, 8}, Count(128));
    return b;
  }
  static std::vector<float> Count(int n) {
    std::vector<float> values;
    for (int i = 0; i < n; ++i) values.push_back(static_cast<float>(i));
    return values;
  }
  Expected<std::unique_ptr<Checkpoint>> Open(const Builder& builder,
                                             std::string_view overrides = "") {
    std::ofstream(folder_ + "/model.gguf", std::ios::binary) << builder.Build();
    return Checkpoint::Open(folder_, overrides);
  }
  std::string Error(const Builder& builder) {
    const auto c = Open(builder);
    return c ? "no error" : c.error().message();
  }

  std::string folder_;
};

TEST_F(GgufModel, ConfigurationAndNames) {
  const auto c = Open(Model("qwen3")
                          .U32("qwen3.attention.key_length", 8)
                          .U32("tokenizer.ggml.eos_token_id", 2)
                          .U32("tokenizer.ggml.eot_token_id", 3));
  ASSERT_TRUE(c) << c.error();
  const ModelConfig& m = (*c)->config();
  EXPECT_EQ(m.architecture, "Qwen3ForCausalLM");
  EXPECT_TRUE(m.qk_norm);
  EXPECT_FALSE(m.qkv_bias);
  EXPECT_EQ(m.hidden_size, 16);
  EXPECT_EQ(m.num_layers, 1);
  EXPECT_EQ(m.num_heads, 2);
  EXPECT_EQ(m.num_kv_heads, 1);
  EXPECT_EQ(m.head_dim, 8);
  EXPECT_EQ(m.intermediate_size, 32);
  EXPECT_EQ(m.vocab_size, 4);
  EXPECT_EQ(m.max_position_embeddings, 4096);
  EXPECT_FLOAT_EQ(m.rms_norm_eps, 1e-5f);
  EXPECT_EQ(m.rope.theta, 1e6);
  EXPECT_TRUE(m.tie_word_embeddings);
  EXPECT_THAT(m.eos_token_ids, ElementsAre(2, 3));
  EXPECT_EQ((*c)->gguf_tokenizer(), nullptr);
  EXPECT_THAT((*c)->Names(),
              ElementsAre("model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight",
                          "model.layers.0.self_attn.q_proj.weight"));
  EXPECT_THAT((*c)->Find("model.embed_tokens.weight")->shape, ElementsAre(4, 16));
  EXPECT_EQ((*c)->Find("model.embed_tokens.weight")->type, "F32");
  float row[16];
  ASSERT_TRUE((*c)->ReadRows("model.layers.0.self_attn.q_proj.weight", 1, 2, row).ok());
  EXPECT_EQ(row[0], 16);  // Qwen files are not permuted
  EXPECT_THAT((*c)->ReadRows("lm_head.weight", 0, 1, row).message(),
              HasSubstr("model.gguf: tensor \"lm_head.weight\" is missing"));
  EXPECT_FALSE((*c)->ReadRows("model.embed_tokens.weight", 3, 5, row).ok());

  const auto overridden = Open(Model("qwen3"), R"({"max_position_embeddings":99})");
  ASSERT_TRUE(overridden) << overridden.error();
  EXPECT_EQ((*overridden)->config().max_position_embeddings, 99);
}

// The file knows no config.json.
TEST_F(GgufModel, MessagesNameTheFilesOwnKeys) {
  const auto error = [this](const std::string& key, float value) {
    Builder b;
    b.Str("general.architecture", "llama");
    for (const std::string name : {"embedding_length", "block_count", "attention.head_count", "feed_forward_length"}) {
      b.F32("llama." + name, name == key ? value : name == "attention.head_count" ? 2 : 8);
    }
    if (key.find("rope") == 0 || key.find("context") == 0 || key.find("epsilon") != key.npos) b.F32("llama." + key, value);
    if (key == "rope.scaling.factor") b.Str("llama.rope.scaling.type", "yarn");
    return Error(b.Tensor("token_embd.weight", {8, 4}, Count(32)));
  };
  for (const char* key : {"embedding_length", "block_count", "attention.head_count", "feed_forward_length", "context_length",
                          "rope.freq_base", "attention.layer_norm_rms_epsilon", "rope.scaling.factor"}) {
    EXPECT_THAT(error(key, -1), HasSubstr(fmt::format("model.gguf: llama.{}: found -1", key))) << key;
  }
  const auto overridden = Open(Model("qwen3"), R"({"num_hidden_layers":0})");
  EXPECT_THAT(overridden.error().message(), HasSubstr("--hf-overrides: num_hidden_layers: found 0"));
  const auto model = Open(Model("qwen3"), R"({"hidden_size":32})");
  ASSERT_TRUE(model) << model.error();
  EXPECT_EQ((*model)->PlaceOf("num_hidden_layers"), folder_ + "/model.gguf: qwen3.block_count");
  EXPECT_EQ((*model)->PlaceOf("hidden_size"), "--hf-overrides: hidden_size");
}

// What counts as absent where it is of another kind would be a default in silence.
TEST_F(GgufModel, ValuesOfAnotherKindAreRefused) {
  const auto error = [this](const std::string& key, uint32_t type, const std::string& value) {
    return Error(Model("qwen3").Entry(key, type, value));
  };
  const std::string text = Builder::Text("8"), flag(1, '\1');
  const float nan = std::nanf(""), infinite = INFINITY;
  constexpr uint32_t kFloat = 6, kBool = 7, kString = 8, kInt = 5, kUnsigned = 4;
  // Of the architecture's keys those that Model() does not write.
  for (const char* key : {"attention.key_length", "rope.scaling.factor", "rope.scaling.original_context_length", "expert_count",
                          "attention.value_length", "rope.scale_linear", "rope.scaling.yarn_beta_fast"}) {
    const std::string full = std::string("qwen3.") + key;
    const std::string place = "model.gguf: " + full + ": found ";
    Builder scaled = Model("qwen3").Str("qwen3.rope.scaling.type", "yarn");
    EXPECT_THAT(Error(Builder(scaled).Entry(full, kString, text)), HasSubstr(place + "\"8\", expected a finite number"));
    EXPECT_THAT(Error(Builder(scaled).Entry(full, kBool, flag)), HasSubstr(place + "true, expected a finite number"));
    EXPECT_THAT(Error(Builder(scaled).F32(full, nan)), HasSubstr(place + "nan, expected a finite number"));
    EXPECT_THAT(Error(Builder(scaled).F32(full, infinite)), HasSubstr(place + "inf, expected a finite number"));
  }
  EXPECT_THAT(error("qwen3.rope.scaling.type", kFloat, Builder::Raw(1.0f)), HasSubstr("found 1, expected a string"));
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.bos_token_id"}) {
    const std::string place = std::string("model.gguf: ") + key + ": found ";
    EXPECT_THAT(error(key, kString, text), HasSubstr(place + "\"8\", expected an integer"));
    EXPECT_THAT(error(key, kFloat, Builder::Raw(3.5f)), HasSubstr(place + "3.5, expected an integer"));
    EXPECT_THAT(error(key, kUnsigned, Builder::Raw(UINT32_MAX)), HasSubstr(place + "4294967295, expected a token's id, less than 4"));
    EXPECT_THAT(error(key, kUnsigned, Builder::Raw(uint32_t{4})), HasSubstr(place + "4, expected a token's id, less than 4"));
    EXPECT_EQ(error(key, kUnsigned, Builder::Raw(uint32_t{3})), "no error");
    EXPECT_EQ(error(key, kInt, Builder::Raw(int32_t{-1})), "no error");
  }
  EXPECT_THAT(error("general.alignment", kString, text), HasSubstr("general.alignment: found \"8\", expected a power of two"));
  EXPECT_THAT(error("split.count", kString, text), HasSubstr("split.count: found \"8\", expected an integer"));
  EXPECT_THAT(error("tokenizer.ggml.tokens", kString, text), HasSubstr("tokenizer.ggml.tokens: found \"8\", expected a list"));
  const auto with_tokens = [](const char* key, uint32_t type, const std::string& value) {
    return Model("qwen3").Array("tokenizer.ggml.tokens", Builder::Strings({"a", "b"})).Entry(key, type, value);
  };
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.chat_template"}) {
    EXPECT_THAT(Error(with_tokens(key, kBool, flag)), HasSubstr(std::string(key) + ": found true, expected a string"));
  }
  EXPECT_THAT(Error(with_tokens("tokenizer.ggml.add_bos_token", kString, text)), HasSubstr("expected true or false"));
  EXPECT_THAT(Error(with_tokens("tokenizer.ggml.merges", kString, text)), HasSubstr("expected a list"));
}

// The same of keys that every model has.
TEST_F(GgufModel, SizesOfAnotherKindAreRefused) {
  for (const char* key : {"embedding_length", "block_count", "attention.head_count", "attention.head_count_kv", "feed_forward_length",
                          "context_length", "attention.layer_norm_rms_epsilon", "rope.freq_base"}) {
    const std::string full = std::string("qwen3.") + key;
    const auto error = [&](uint32_t type, const std::string& value) {
      Builder b;
      b.Str("general.architecture", "qwen3").Entry(full, type, value).Tensor("token_embd.weight", {16, 4}, Count(64));
      return Error(b);
    };
    const std::string place = "model.gguf: " + full + ": found ";
    EXPECT_THAT(error(8, Builder::Text("many")), HasSubstr(place + "\"many\", expected a finite number"));
    EXPECT_THAT(error(7, std::string(1, '\1')), HasSubstr(place + "true, expected a finite number"));
    EXPECT_THAT(error(6, Builder::Raw(std::nanf(""))), HasSubstr(place + "nan, expected a finite number"));
    EXPECT_THAT(error(6, Builder::Raw(INFINITY)), HasSubstr(place + "inf, expected a finite number"));
  }
}

TEST_F(GgufModel, LlamaRowsGoBackToHuggingFacesOrder) {
  const auto c = Open(Model("llama")
                          .Tensor("output.weight", {16, 4}, Count(64))
                          .Tensor("blk.0.attn_q.bias", {16}, Count(16)));
  ASSERT_TRUE(c) << c.error();
  EXPECT_EQ((*c)->config().architecture, "LlamaForCausalLM");
  EXPECT_FALSE((*c)->config().tie_word_embeddings);
  EXPECT_TRUE((*c)->config().qkv_bias);
  EXPECT_FALSE((*c)->config().o_bias);
  // transformers: w.reshape(heads, 2, half, k) → swapaxes(1, 2) made the file. Row (head, half, i)
  // of the original is therefore row (head, i, half) of the file.
  std::vector<float> q(256);
  std::vector<BF16> rows(128);
  ASSERT_TRUE((*c)->ReadRows("model.layers.0.self_attn.q_proj.weight", 0, 16, q.data()).ok());
  ASSERT_TRUE((*c)->ReadRows("model.layers.0.self_attn.k_proj.weight", 0, 8, rows.data()).ok());
  const std::vector<int> order = {0, 2, 4, 6, 1, 3, 5, 7};
  for (size_t r = 0; r < 8; ++r) {
    EXPECT_EQ(q[r * 16], order[r] * 16) << r;
    EXPECT_EQ(q[(8 + r) * 16 + 5], (8 + order[r]) * 16 + 5) << r;
    EXPECT_EQ(ToFloat(rows[r * 16]), order[r] * 16) << r;
  }
  float bias[16];
  ASSERT_TRUE((*c)->ReadRows("model.layers.0.self_attn.q_proj.bias", 8, 16, bias).ok());
  EXPECT_EQ(bias[1], 10);
  float embedding[16];
  ASSERT_TRUE((*c)->ReadRows("model.embed_tokens.weight", 1, 2, embedding).ok());
  EXPECT_EQ(embedding[0], 16);
}

TEST_F(GgufModel, RopeScaling) {
  const auto yarn = Open(Model("qwen2")
                             .Str("qwen2.rope.scaling.type", "yarn")
                             .F32("qwen2.rope.scaling.factor", 4)
                             .U32("qwen2.rope.scaling.original_context_length", 1024));
  ASSERT_TRUE(yarn) << yarn.error();
  EXPECT_EQ((*yarn)->config().rope.type, RopeType::kYarn);
  EXPECT_EQ((*yarn)->config().DerivedMaxModelLen(), 4096);
  EXPECT_THAT(Error(Model("qwen2")
                        .Str("qwen2.rope.scaling.type", "longrope\xff")
                        .F32("qwen2.rope.scaling.factor", 4)),
              HasSubstr("model.gguf: qwen2.rope.scaling.type: found \"longrope"));
  // A factor alone, also under its older name, is linear in llama.cpp; none, or 0, is no scaling.
  for (const char* key : {"qwen2.rope.scaling.factor", "qwen2.rope.scale_linear"}) {
    const auto linear = Open(Model("qwen2").F32(key, 4));
    ASSERT_TRUE(linear) << linear.error();
    EXPECT_EQ((*linear)->config().rope.type, RopeType::kLinear) << key;
    EXPECT_EQ((*linear)->config().rope.factor, 4) << key;
    for (const auto& [type, factor] : {std::pair("none", 4.0f), {"linear", 0.0f}}) {
      const auto plain = Open(Model("qwen2").F32(key, factor).Str("qwen2.rope.scaling.type", type));
      ASSERT_TRUE(plain) << plain.error();
      EXPECT_EQ((*plain)->config().rope.type, RopeType::kDefault) << key;
    }
  }
}

TEST_F(GgufModel, Llama3FrequencyFactorsBecomeItsParameters) {
  std::vector<float> divisors;
  for (int i = 0; i < 4; ++i) {  // factor 32, Hugging Face's formula
    const double wavelength = 2 * std::numbers::pi * std::pow(1e6, i / 4.0);
    const double smooth = (8192 / wavelength - 1) / 3;
    divisors.push_back(wavelength < 2048   ? 1
                       : wavelength > 8192 ? 32
                                           : static_cast<float>(1 / ((1 - smooth) / 32 + smooth)));
  }
  const auto c = Open(Model("llama").Tensor("rope_freqs.weight", {4}, divisors));
  ASSERT_TRUE(c) << c.error();
  EXPECT_EQ((*c)->config().rope.type, RopeType::kLlama3);
  EXPECT_EQ((*c)->config().rope.factor, 32);
  EXPECT_EQ((*c)->config().rope.original_max_position_embeddings, 8192);
  EXPECT_THAT(Error(Model("llama").Tensor("rope_freqs.weight", {4}, {1, 2, 3, 4})),
              HasSubstr("frequency factors that are not Llama 3's"));
}

TEST_F(GgufModel, TokenizerData) {
  Builder b = Model("llama");
  b.Str("tokenizer.ggml.model", "gpt2").Str("tokenizer.ggml.pre", "smollm");
  b.Array("tokenizer.ggml.tokens", Builder::Strings({"a", "b", "<|im_end|>", "ab"}));
  b.Array("tokenizer.ggml.merges", Builder::Strings({"a b"}));
  std::string types = Builder::Raw<uint32_t>(5) + Builder::Raw<uint64_t>(4);
  for (int type : {1, 1, 3, 1}) types += Builder::Raw<int32_t>(type);
  b.Array("tokenizer.ggml.token_type", types);
  b.U32("tokenizer.ggml.eos_token_id", 2).U32("tokenizer.ggml.padding_token_id", 77);
  b.Str("tokenizer.chat_template", "{{ messages }}");
  const auto c = Open(b);
  ASSERT_TRUE(c) << c.error();
  const GgufTokenizerData* t = (*c)->gguf_tokenizer();
  ASSERT_NE(t, nullptr);
  EXPECT_EQ(t->model, "gpt2");
  EXPECT_EQ(t->pre, "smollm");
  EXPECT_THAT(t->tokens, ElementsAre("a", "b", "<|im_end|>", "ab"));
  EXPECT_THAT(t->merges, ElementsAre("a b"));
  EXPECT_THAT(t->token_types, ElementsAre(1, 1, 3, 1));
  EXPECT_EQ(t->eos, 2);
  EXPECT_EQ(t->bos, -1);
  EXPECT_EQ(t->padding, -1);  // out of range
  EXPECT_FALSE(t->add_bos);
  EXPECT_EQ(t->chat_template, "{{ messages }}");

  b.Array("tokenizer.ggml.scores",
          Builder::Raw<uint32_t>(6) + Builder::Raw<uint64_t>(1) + Builder::Raw<float>(1));
  EXPECT_THAT(Error(b), HasSubstr("tokenizer.ggml.scores: found a list of 1, expected a number for "
                                  "each of 4 tokens"));
}

TEST_F(GgufModel, EveryTokenThatEndsAnAnswer) {
  Builder b = Model("qwen3");
  b.U32("tokenizer.ggml.eos_token_id", 2).U32("tokenizer.ggml.eot_token_id", 1);
  b.U32("tokenizer.ggml.eom_token_id", 3).U32("tokenizer.ggml.bos_token_id", 1);
  const auto c = Open(b);
  ASSERT_TRUE(c) << c.error();
  EXPECT_THAT((*c)->config().eos_token_ids, ElementsAre(2, 1, 3));
  Builder same = Model("qwen3");
  for (const char* key : {"eos", "eot", "eom"}) {
    same.U32(fmt::format("tokenizer.ggml.{}_token_id", key), 3);
  }
  EXPECT_THAT((*Open(same))->config().eos_token_ids, ElementsAre(3));
}

// Values that no integer or float can hold are not converted to one.
TEST_F(GgufModel, OddNumbersOfTheVocabulary) {
  Builder b = Model("llama");
  b.Array("tokenizer.ggml.tokens", Builder::Strings({"a", "b", "c"}));
  const auto doubles = [](std::vector<double> values) {
    std::string raw = Builder::Raw<uint32_t>(12) + Builder::Raw<uint64_t>(values.size());
    for (const double value : values) raw += Builder::Raw(value);
    return raw;
  };
  b.Array("tokenizer.ggml.token_type", doubles({std::nan(""), 1e300, -INFINITY}));
  b.Array("tokenizer.ggml.scores", doubles({std::nan(""), 1e300, -2}));
  const auto c = Open(b);
  ASSERT_TRUE(c) << c.error();
  EXPECT_THAT((*c)->gguf_tokenizer()->token_types, ElementsAre(0, 0, 0));
  EXPECT_THAT((*c)->gguf_tokenizer()->scores, ElementsAre(0, 0, -2));
}

// A sparse file is as large as a list says and takes no room on disk: neither memory nor time may be
// spent on it. The numbers of bytes are far more than a test could read or hold.
TEST_F(GgufModel, ListsOfASparseFile) {
  constexpr uint64_t kTiB = uint64_t{1} << 40;
  const auto error = [&](const std::string& key, uint32_t element, uint64_t count, uint64_t file) {
    // The list is the last entry; its elements are the file's zeros.
    Builder b;
    b.Str("general.architecture", "qwen3").U32("qwen3.embedding_length", 16);
    b.Array(key, Builder::Raw(element) + Builder::Raw(count));
    std::string head = b.Build();
    head.resize(head.find(key) + key.size() + 4 + 4 + 8);
    const std::string path = folder_ + "/model.gguf";
    std::ofstream(path, std::ios::binary) << head;
    std::filesystem::resize_file(path, file);
    const auto c = Checkpoint::Open(path);
    return c ? "no error" : c.error().message();
  };
  const std::string heads = "qwen3.attention.head_count_kv";
  EXPECT_THAT(error(heads, 0, 1'000'000'000, kTiB),
              HasSubstr("arrays of the header go on beyond byte 268435456"));
  EXPECT_THAT(error(heads, 0, 200'000'000, kTiB),
              HasSubstr("head_count_kv: found a list of 200000000, expected at most 1024 numbers"));
  for (const uint32_t element : {0u, 4u, 8u, 12u}) {
    EXPECT_THAT(error("unknown", element, kTiB / 16, kTiB), HasSubstr("go on beyond byte 268435456"))
        << element;
  }
}

TEST_F(GgufModel, VocabulariesAreBounded) {
  Builder b = Model("llama");
  // Empty strings take eight bytes each.
  b.Array("tokenizer.ggml.tokens", Builder::Raw<uint32_t>(8) + Builder::Raw<uint64_t>(kMaxVocab + 1) +
                                       std::string(8 * (kMaxVocab + 1), '\0'));
  EXPECT_THAT(Error(b), HasSubstr("tokenizer.ggml.tokens: found a list of 4194305, expected at most "
                                  "4194304 strings"));
  EXPECT_THAT(Error(Model("llama")
                        .Array("tokenizer.ggml.tokens",
                               Builder::Raw<uint32_t>(4) + Builder::Raw<uint64_t>(0))),
              HasSubstr("expected at most 4194304 strings"));
}

TEST_F(GgufModel, NamesWhatIsNotSupported) {
  EXPECT_THAT(Error(Model("gemma3")), HasSubstr("general.architecture: found \"gemma3\", expected "
                                                "one of the supported ones: qwen3, qwen2, llama"));
  EXPECT_THAT(Error(Builder()), HasSubstr("general.architecture: found nothing"));
  EXPECT_THAT(Error(Builder().Str("general.architecture", "qwen3")),
              HasSubstr("model.gguf: qwen3.embedding_length: found nothing"));
  EXPECT_THAT(Error(Model("llama").U32("llama.expert_count", 8)), HasSubstr("mixture of experts"));
  EXPECT_THAT(Error(Model("llama").U32("llama.rope.dimension_count", 4)),
              HasSubstr("rope.dimension_count: found 4"));
  EXPECT_THAT(Error(Model("llama").Entry("split.count", 2, Builder::Raw<uint16_t>(3))),
              HasSubstr("one of 3 parts of a split GGUF"));
  EXPECT_THAT(Error(Model("llama").TensorAt("blk.0.attn_norm.weight", {32}, 8, 4096).Data(8192)),
              HasSubstr("found a vector of type Q8_0"));
  std::ofstream(folder_ + "/model.gguf", std::ios::trunc).flush();
  EXPECT_THAT(Checkpoint::Open(folder_ + "/model.gguf").error().message(),
              HasSubstr("model.gguf: is empty (0 bytes)"));
}

}  // namespace
}  // namespace tiercel::checkpoint
