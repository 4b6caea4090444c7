// GGUF files that are written here: structure, metadata and names, read back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_metadata.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_writer.h"

namespace tiercel::checkpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GgufWriting : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "gguf_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = folder_ + "/model.gguf";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static std::span<const uint8_t> Bytes(const std::string& text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
  }
  std::string Content() const {
    std::ostringstream out;
    out << std::ifstream(path_, std::ios::binary).rdbuf();
    return out.str();
  }

  std::string folder_, path_;
};

TEST_F(GgufWriting, TensorsComeInPieces) {
  GgufEntries entries;
  entries.AddText("text", "héllo");
  entries.AddU32("u32", 4000000000);
  entries.AddF32("f32", 0.5);
  entries.AddBool("bool", true);
  entries.AddTexts("texts", {"a", "", "ccc"});
  entries.AddI32s("ints", {-1, 9});
  EXPECT_EQ(entries.count(), 6u);
  const std::vector<PlannedGgufTensor> plan = {{"odd", GgufTensorType::kF32, {3}}, {"blocks", GgufTensorType::kQ8_0, {2, 64}}};
  EXPECT_EQ(plan[1].bytes(), 2 * 2 * 34);
  {
    auto writer = GgufWriter::Create(path_, entries, plan);
    ASSERT_TRUE(writer) << writer.error();
    ASSERT_TRUE((*writer)->Append("odd", Bytes(std::string(12, 'x'))).ok());
    ASSERT_TRUE((*writer)->Append("blocks", Bytes(std::string(68, 'y'))).ok());
    ASSERT_TRUE((*writer)->Append("blocks", Bytes(std::string(68, 'z'))).ok());
    EXPECT_FALSE(std::filesystem::exists(path_)) << "it would look like a whole one, were this the end";
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  const std::string content = Content();
  const auto parsed = GgufFile::Parse(Bytes(content), path_);
  ASSERT_TRUE(parsed) << parsed.error();
  EXPECT_EQ(parsed->String("text"), "héllo");
  EXPECT_EQ(parsed->Int("u32"), 4000000000);
  EXPECT_EQ(parsed->Number("f32"), 0.5);
  EXPECT_EQ(parsed->Bool("bool"), true);
  EXPECT_THAT(*GgufFile::Strings(*parsed->Array("texts"), 3), ElementsAre("a", "", "ccc"));
  EXPECT_THAT(*GgufFile::Numbers(*parsed->Array("ints"), 2), ElementsAre(-1, 9));
  const GgufTensor& blocks = parsed->tensors().find("blocks")->second;
  EXPECT_THAT(blocks.shape, ElementsAre(2, 64));
  EXPECT_EQ(content.substr(blocks.begin), std::string(68, 'y') + std::string(68, 'z') + std::string(24, '\0'));
  EXPECT_THAT(GgufWriter::Create(path_, entries, plan).error().message(), HasSubstr("is there already; name a new file"));
  EXPECT_EQ(Content(), content);
}

TEST_F(GgufWriting, UnfinishedFilesAreRemoved) {
  {
    auto writer = GgufWriter::Create(path_, {}, {{"a", GgufTensorType::kF32, {3}}});
    ASSERT_TRUE(writer) << writer.error();
    EXPECT_TRUE(std::filesystem::exists(path_ + ".part"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_THAT(GgufWriter::Create(folder_ + "/none/m.gguf", {}, {}).error().message(), HasSubstr("/none/m.gguf: cannot be made"));
}

TEST(GgufNames, GoBothWays) {
  for (const auto& [gguf, hf] : {std::pair{"blk.13.attn_output.weight", "model.layers.13.self_attn.o_proj.weight"},
                                 std::pair{"blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias"},
                                 std::pair{"output_norm.weight", "model.norm.weight"},
                                 std::pair{"rope_freqs.weight", "rope_freqs.weight"}}) {
    EXPECT_EQ(HuggingFaceName(gguf), hf);
    EXPECT_EQ(GgufName(hf), gguf);
  }
}

// What is read back of the metadata, with the tensors that are part of the configuration.
Expected<ModelConfig> ReadBack(const ModelConfig& config, const std::string& folder) {
  ASSIGN_OR_RETURN(const GgufEntries entries, DescribeModel(config, {}));
  const std::string path = folder + "/model.gguf";
  std::vector<PlannedGgufTensor> plan = {{"token_embd.weight", GgufTensorType::kF32, {config.vocab_size, 1}}};
  if (!config.tie_word_embeddings) plan.push_back({"output.weight", GgufTensorType::kF32, {1}});
  if (config.qkv_bias) plan.push_back({"blk.0.attn_q.bias", GgufTensorType::kF32, {1}});
  std::string content;
  {
    ASSIGN_OR_RETURN(const auto writer, GgufWriter::Create(path, entries, plan));
    for (const PlannedGgufTensor& tensor : plan) {
      const std::vector<uint8_t> zeros(static_cast<size_t>(tensor.bytes()));
      RETURN_IF_ERROR(writer->Append(tensor.name, zeros));
    }
    RETURN_IF_ERROR(writer->Finish());
  }
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  std::filesystem::remove(path);
  content = out.str();
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(content.data()), content.size());
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(bytes, path));
  return GgufModelConfig(file, bytes, "", path);
}

std::string ConfigOf(const std::string& model) {
  std::ostringstream out;
  out << std::ifstream(std::string(TIERCEL_TEST_DATA) + "/models/" + model + "/config.json").rdbuf();
  return out.str();
}

TEST_F(GgufWriting, MetadataSaysTheConfiguration) {
  for (const char* model : {"qwen3-tied", "qwen3-untied-yarn", "qwen2-tied-linear"}) {
    SCOPED_TRACE(model);
    const auto config = ParseModelConfig(ConfigOf(model), "", model);
    ASSERT_TRUE(config) << config.error();
    const auto read = ReadBack(*config, folder_);
    ASSERT_TRUE(read) << read.error();
    EXPECT_EQ(read->architecture, config->architecture);
    EXPECT_EQ(read->hidden_size, config->hidden_size);
    EXPECT_EQ(read->num_layers, config->num_layers);
    EXPECT_EQ(read->num_heads, config->num_heads);
    EXPECT_EQ(read->num_kv_heads, config->num_kv_heads);
    EXPECT_EQ(read->head_dim, config->head_dim);
    EXPECT_EQ(read->intermediate_size, config->intermediate_size);
    EXPECT_EQ(read->vocab_size, config->vocab_size);
    EXPECT_EQ(read->max_position_embeddings, config->max_position_embeddings);
    EXPECT_EQ(read->rms_norm_eps, config->rms_norm_eps);
    EXPECT_EQ(read->tie_word_embeddings, config->tie_word_embeddings);
    EXPECT_EQ(read->qk_norm, config->qk_norm);
    EXPECT_EQ(read->qkv_bias, config->qkv_bias);
    EXPECT_EQ(read->rope.type, config->rope.type);
    EXPECT_EQ(read->rope.theta, config->rope.theta);
    EXPECT_EQ(read->rope.factor, config->rope.factor);
    EXPECT_EQ(read->rope.original_max_position_embeddings, config->rope.original_max_position_embeddings);
    EXPECT_EQ(read->DerivedMaxModelLen(), config->DerivedMaxModelLen());
  }
}

TEST_F(GgufWriting, WhatAFileCannotSayIsNamed) {
  const auto error = [&](const std::string& overrides) {
    const auto config = ParseModelConfig(ConfigOf("qwen3-tied"), overrides, "c");
    EXPECT_TRUE(config) << config.error();
    const auto entries = DescribeModel(*config, {});
    return entries ? std::string("no error") : entries.error().message();
  };
  EXPECT_EQ(error("{}"), "no error");
  EXPECT_THAT(error(R"({"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 2})"),
              HasSubstr("found Qwen3ForSequenceClassification, expected one that GGUF files have here"));
  EXPECT_THAT(error(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                         "high_freq_factor": 4, "original_max_position_embeddings": 8192}})"), HasSubstr("found llama3 in a Qwen3ForCausalLM"));
  EXPECT_THAT(error(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "truncate": false}})"),
              HasSubstr("yarn without truncation"));
  // The attention factor is there as what multiplies YaRN's own.
  const auto config = ParseModelConfig(
      ConfigOf("qwen3-tied"), R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "attention_factor": 1.5}})", "c");
  const auto read = ReadBack(*config, folder_);
  ASSERT_TRUE(read) << read.error();
  EXPECT_NEAR(read->rope.attention_factor.value_or(0), 1.5, 1e-6);
}

}  // namespace
}  // namespace tiercel::checkpoint
