// Models that pool: their hidden states, their classifiers, and what their files say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "checkpoint/dummy_checkpoint.h"
#include "checkpoint/pooling_modules.h"
#include "model/classifier.h"
#include "model/load_model.h"

namespace tiercel::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kConfig = R"({"architectures": ["Qwen3For%"], "hidden_size": 64,
  "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
  "intermediate_size": 96, "vocab_size": 160, "max_position_embeddings": 256,
  "tie_word_embeddings": false})";

checkpoint::ModelConfig Config(const std::string& end, const std::string& overrides = "") {
  std::string text(kConfig);
  text.replace(text.find('%'), 1, end);
  auto config = checkpoint::ParseModelConfig(text, overrides, "config.json");
  EXPECT_TRUE(config.has_value()) << (config ? "" : config.error().message());
  return *config;
}

std::string ConfigError(const std::string& overrides) {
  std::string text(kConfig);
  text.replace(text.find('%'), 1, "SequenceClassification");
  const auto config = checkpoint::ParseModelConfig(text, overrides, "config.json");
  return config ? "no error" : config.error().message();
}

class PoolingModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto environment = kernels::Environment::Create({.threads = 2, .isa = "", .pin = false});
    ASSERT_TRUE(environment.has_value()) << environment.error();
    environment_ = std::move(*environment);
  }

  // The rows that a step over `tokens` gives for each of them, `width` values each.
  std::vector<std::vector<float>> Rows(const checkpoint::Checkpoint& checkpoint, checkpoint::Head head, int64_t width,
                                       const std::vector<int32_t>& tokens) {
    LoadOptions options;
    options.weights.head = head;
    auto model = LoadModel(checkpoint, options, environment_.get(), [](int64_t, int64_t) {});
    EXPECT_TRUE(model.has_value()) << (model ? "" : model.error().message());
    EXPECT_EQ((*model)->head(), head);
    EXPECT_EQ((*model)->hidden_size(), 64);
    const auto count = static_cast<int64_t>(tokens.size());
    // Groups smaller than the step: the rows come in several.
    EXPECT_TRUE((*model)->Prepare({4, 32}, {count, 2, 5, 64}).ok());
    std::vector<int32_t> positions, rows;
    for (int32_t i = 0; i < count; ++i) positions.push_back(i), rows.push_back(i);
    const std::vector<int32_t> start = {0, static_cast<int32_t>(count)};
    const std::vector<int32_t> context = {static_cast<int32_t>(count)};
    const std::vector<int32_t> blocks = {2, 1};
    const std::vector<const int32_t*> tables = {blocks.data()};
    StepBatch batch;
    batch.token_ids = tokens;
    batch.positions = positions;
    batch.query_start = start;
    batch.context_len = context;
    batch.block_tables = tables;
    batch.logit_rows = rows;
    std::vector<std::vector<float>> out(tokens.size());
    EXPECT_TRUE((*model)->Run(batch, [&](const LogitGroup& group, int worker) {
                            if (worker != 0) return;
                            for (int64_t r = group.first; r < group.first + group.count; ++r) {
                              out[r].assign(group.row(r), group.row(r) + width);
                            }
                          }).ok());
    return out;
  }

  std::unique_ptr<kernels::Environment> environment_;
};

// The head's product with what a model gives that pools is what the other one gives.
TEST_F(PoolingModelTest, HiddenStatesAreWhatTheHeadMultiplies) {
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(Config("CausalLM"), {}, 3);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 13; ++i) tokens.push_back(i * 11 % 160);
  const auto logits = Rows(*checkpoint, checkpoint::Head::kLogits, 160, tokens);
  const auto hidden = Rows(*checkpoint, checkpoint::Head::kHidden, 64, tokens);
  std::vector<float> head(160 * 64);
  ASSERT_TRUE(checkpoint->ReadRows("lm_head.weight", 0, 160, head.data()).ok());
  for (size_t r = 0; r < tokens.size(); ++r) {
    for (int64_t v = 0; v < 160; ++v) {
      double sum = 0, size = 0;
      for (int64_t i = 0; i < 64; ++i) {
        sum += double{head[v * 64 + i]} * hidden[r][i];
        size += std::abs(double{head[v * 64 + i]} * hidden[r][i]);
      }
      // The other model rounds the states to BF16, and the weights.
      ASSERT_NEAR(logits[r][v], sum, 0x1p-7 * size) << "row " << r << " token " << v;
    }
  }
}

TEST_F(PoolingModelTest, NeedsNoHead) {
  // Neither in the files nor among the weights.
  checkpoint::ModelConfig config = Config("CausalLM");
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(config, {}, 1);
  LoadOptions options;
  auto with = LoadModel(*checkpoint, options, environment_.get(), [](int64_t, int64_t) {});
  options.weights.head = checkpoint::Head::kHidden;
  auto without = LoadModel(*checkpoint, options, environment_.get(), [](int64_t, int64_t) {});
  ASSERT_TRUE(with && without);
  EXPECT_EQ((*with)->WeightBytes() - (*without)->WeightBytes(), 160 * 64 * 2);
}

TEST(ClassifierTest, ReadsScoreOrRowsOfTheHead) {
  const checkpoint::ModelConfig config = Config("SequenceClassification", R"({"id2label": {"1": "b", "0": "a", "2": "c"}})");
  EXPECT_EQ(config.pooling.num_labels, 3);
  EXPECT_THAT(config.pooling.labels, ElementsAre("a", "b", "c"));
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(config, {}, 1);
  const auto classifier = ReadClassifier(*checkpoint, {});
  ASSERT_TRUE(classifier.has_value()) << classifier.error();
  EXPECT_EQ(classifier->activation, Classifier::Activation::kSoftmax);
  std::vector<float> score(3 * 64);
  ASSERT_TRUE(checkpoint->ReadRows("score.weight", 0, 3, score.data()).ok());
  EXPECT_EQ(classifier->weight, score);

  const checkpoint::ModelConfig reranker = Config("SequenceClassification",
                                      R"({"classifier_from_token": ["no", "yes"]})");
  EXPECT_EQ(reranker.pooling.num_labels, 1);
  const auto from_head = checkpoint::MakeDummyCheckpoint(reranker, {}, 1);
  const auto difference = ReadClassifier(*from_head, std::vector<int32_t>{7, 9});
  ASSERT_TRUE(difference.has_value()) << difference.error();
  EXPECT_EQ(difference->activation, Classifier::Activation::kSigmoid);
  std::vector<float> no(64), yes(64);
  ASSERT_TRUE(from_head->ReadRows("lm_head.weight", 7, 8, no.data()).ok());
  ASSERT_TRUE(from_head->ReadRows("lm_head.weight", 9, 10, yes.data()).ok());
  for (int i = 0; i < 64; ++i) EXPECT_EQ(difference->weight[i], yes[i] - no[i]);
  EXPECT_THAT(ReadClassifier(*from_head, std::vector<int32_t>{7, 160}).error().message(),
              HasSubstr("classifier_from_token: yes has the id 160"));
}

TEST(ClassifierTest, RefusesConfigurationsThatDoNotFit) {
  EXPECT_THAT(ConfigError(R"({"id2label": ["a"]})"), HasSubstr("id2label: found"));
  EXPECT_THAT(ConfigError(R"({"id2label": {"5": "a"}})"), HasSubstr("id2label: found"));
  EXPECT_THAT(ConfigError(R"({"id2label": {"0": 7}})"), HasSubstr("id2label: found"));
  EXPECT_THAT(ConfigError(R"({"num_labels": 0})"), HasSubstr("num_labels: found 0"));
  EXPECT_THAT(ConfigError(R"({"classifier_from_token": []})"), HasSubstr("classifier_from_token: found"));
  EXPECT_THAT(ConfigError(R"({"classifier_from_token": ["a", "b", "c"], "num_labels": 2})"),
              HasSubstr("num_labels: found 2"));
  EXPECT_THAT(ConfigError(R"({"matryoshka_dimensions": [0]})"), HasSubstr("matryoshka_dimensions: found"));
  EXPECT_THAT(ConfigError(R"({"matryoshka_dimensions": [65]})"), HasSubstr("from 1 to hidden_size (64)"));
}

TEST(PoolingModulesTest, ReadsTheFilesOfSentenceTransformers) {
  const std::string folder = ::testing::TempDir() + "modules";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder + "/1_Pooling");
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder + "/" + name) << text;
  };
  const auto read = [&] { return checkpoint::ReadPoolingModules(folder); };
  ASSERT_TRUE(read().has_value());
  EXPECT_FALSE(read()->has_value());

  constexpr std::string_view kStart =
      R"([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"})";
  constexpr std::string_view kPooling =
      R"(,{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"})";
  write("modules.json", std::string(kStart) + "]");
  EXPECT_FALSE(read()->has_value());
  write("modules.json", std::string(kStart) + std::string(kPooling) + "]");
  ASSERT_TRUE(read()->has_value());
  EXPECT_FALSE((*read())->normalize);
  write("modules.json", std::string(kStart) + std::string(kPooling) +
                            R"(,{"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])");
  write("1_Pooling/config.json", R"({"pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true})");
  EXPECT_TRUE((*read())->normalize);

  write("1_Pooling/config.json", R"({"pooling_mode_mean_tokens": true})");
  EXPECT_THAT(read().error().message(), HasSubstr("pooling_mode_mean_tokens: found true"));
  write("modules.json", std::string(kStart) +
                            R"(,{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}])");
  EXPECT_THAT(read().error().message(), HasSubstr("models.Dense"));
  write("modules.json", std::string(kStart) +
                            R"(,{"path": "../x", "type": "sentence_transformers.models.Pooling"}])");
  EXPECT_THAT(read().error().message(), HasSubstr("path: found \"../x\""));
  for (const char* broken : {"", "{}", "7", "[7]", "[", "[{}]"}) {
    write("modules.json", broken);
    EXPECT_FALSE(read().has_value()) << broken;
  }
}

}  // namespace
}  // namespace tiercel::model
