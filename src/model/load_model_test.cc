#include "model/load_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/dummy_checkpoint.h"

namespace tiercel::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

checkpoint::ModelConfig SmallConfig() {
  checkpoint::ModelConfig config;
  config.architecture = "Qwen3ForCausalLM";
  config.hidden_size = 64;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.intermediate_size = 96;
  config.vocab_size = 200;
  config.max_position_embeddings = 256;
  config.qk_norm = true;
  return config;
}

// A checkpoint with tensors taken out or of another shape.
class ChangedCheckpoint final : public checkpoint::Checkpoint {
 public:
  explicit ChangedCheckpoint(checkpoint::ModelConfig config)
      : base_(checkpoint::MakeDummyCheckpoint(std::move(config), {}, 1)) {}

  void Remove(const std::string& name) { changes_[name] = std::nullopt; }
  void Reshape(const std::string& name, std::vector<int64_t> shape) {
    changes_[name] = checkpoint::TensorInfo{std::move(shape), "BF16"};
  }

  const checkpoint::ModelConfig& config() const override { return base_->config(); }
  const checkpoint::GenerationConfig& generation_config() const override { return base_->generation_config(); }
  std::optional<checkpoint::TensorInfo> Find(const std::string& name) const override {
    const auto it = changes_.find(name);
    return it != changes_.end() ? it->second : base_->Find(name);
  }
  std::vector<std::string> Names() const override { return base_->Names(); }
  int64_t FileBytes() const override { return 0; }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    if (!Find(name)) return NotFound("{}: not in /models/x/model.safetensors", name);
    return base_->ReadRows(name, begin, end, out);
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    return base_->ReadRows(name, begin, end, out);
  }
  const BF16* MappedBF16(const std::string&) const override { return nullptr; }
  void WillNeed(const std::string&) const override {}
  void DontNeed(const std::string&) const override {}

 private:
  std::unique_ptr<checkpoint::Checkpoint> base_;
  std::map<std::string, std::optional<checkpoint::TensorInfo>> changes_;
};

class LoadModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto environment = kernels::Environment::Create({.threads = 2, .isa = "scalar", .pin = false});
    ASSERT_TRUE(environment.has_value()) << environment.error();
    environment_ = std::move(*environment);
  }
  Expected<std::unique_ptr<CausalLm>> Load(const checkpoint::Checkpoint& checkpoint, LoadOptions options = {}) {
    done_ = 0;
    return LoadModel(checkpoint, options, environment_.get(), [&](int64_t done, int64_t total) {
      EXPECT_GE(done, done_);
      EXPECT_LE(done, total);
      done_ = done;
      total_ = total;
    });
  }
  std::string Error(const checkpoint::Checkpoint& checkpoint) {
    auto model = Load(checkpoint);
    return model.has_value() ? "no error" : model.error().message();
  }

  std::unique_ptr<kernels::Environment> environment_;
  int64_t done_ = 0, total_ = 0;
};

TEST_F(LoadModelTest, ProgressEndsAtTheTotal) {
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(SmallConfig(), {}, 1);
  ASSERT_TRUE(Load(*checkpoint).has_value());
  EXPECT_GT(total_, 0);
  EXPECT_EQ(done_, total_);
}

// Engines on the same nodes have one copy of the weights, those of other nodes one of their own.
TEST_F(LoadModelTest, OneCopyForEachPlace) {
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(SmallConfig(), {}, 1);
  auto second = kernels::Environment::Create({.threads = 2, .isa = "scalar", .pin = false});
  ASSERT_TRUE(second.has_value()) << second.error();
  kernels::Environment* const both[] = {environment_.get(), second->get()};
  for (const bool apart : {false, true}) {
    if (apart) (*second)->nodes = {7, 7};
    int loads = 0;
    const auto models = LoadModels(*checkpoint, {}, both, [&](int64_t done, int64_t) { loads += done == 0; });
    ASSERT_TRUE(models.has_value()) << models.error();
    EXPECT_EQ(models->size(), 2u);
    EXPECT_EQ(loads, apart ? 2 : 1);
    EXPECT_EQ((*models)[0]->WeightBytes(), (*models)[1]->WeightBytes());
  }
}

// Kept weights lie in the page cache, wherever that is: who has several nodes is told.
TEST_F(LoadModelTest, KeptWeightsOfSeveralNodesAreSaidToHaveNoPlace) {
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(SmallConfig(), {}, 1);
  std::string folder = testing::TempDir() + "/load-model-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  LoadOptions options;
  options.weights.packed = {folder + "/model", "dummy"};
  for (const bool apart : {false, true}) {
    SCOPED_TRACE(apart);
    environment_->nodes = apart ? std::vector<int>{0, 1} : std::vector<int>{0, 0};
    testing::internal::CaptureStdout();
    ASSERT_TRUE(Load(*checkpoint, options).has_value());
    EXPECT_EQ(done_, total_);
    EXPECT_EQ(testing::internal::GetCapturedStdout().find("on any of the 2 NUMA nodes") != std::string::npos, apart);
  }
  std::filesystem::remove_all(folder);
}

TEST_F(LoadModelTest, MissingTensorNamesTensorAndFile) {
  ChangedCheckpoint checkpoint(SmallConfig());
  checkpoint.Remove("model.layers.1.mlp.up_proj.weight");
  EXPECT_THAT(Error(checkpoint), AllOf(HasSubstr("model.layers.1.mlp.up_proj.weight"),
                                       HasSubstr("/models/x/model.safetensors")));
}

TEST_F(LoadModelTest, WrongShapeSaysFoundAndExpected) {
  ChangedCheckpoint checkpoint(SmallConfig());
  checkpoint.Reshape("model.layers.0.self_attn.k_proj.weight", {128, 64});
  EXPECT_THAT(Error(checkpoint),
              AllOf(HasSubstr("model.layers.0.self_attn.k_proj.weight"),
                    HasSubstr("found shape [128, 64]"), HasSubstr("expected [64, 64]")));
}

TEST_F(LoadModelTest, UntiedWithoutHeadNamesLmHead) {
  ChangedCheckpoint checkpoint(SmallConfig());
  checkpoint.Remove("lm_head.weight");
  EXPECT_THAT(Error(checkpoint), AllOf(HasSubstr("lm_head.weight"),
                                       HasSubstr("tie_word_embeddings is false")));
}

TEST_F(LoadModelTest, TiedNeedsNoHead) {
  checkpoint::ModelConfig config = SmallConfig();
  config.tie_word_embeddings = true;
  EXPECT_EQ(Error(ChangedCheckpoint(config)), "no error");
}

TEST_F(LoadModelTest, ShapesThatNoKernelTakesAreRefused) {
  checkpoint::ModelConfig config = SmallConfig();
  config.head_dim = 40;
  EXPECT_THAT(Error(*checkpoint::MakeDummyCheckpoint(config, {}, 1)), HasSubstr("head_dim: found 40"));
  config.head_dim = 1024;  // more than the kernels have room for
  EXPECT_THAT(Error(*checkpoint::MakeDummyCheckpoint(config, {}, 1)), HasSubstr("head_dim: found 1024"));
  config = SmallConfig();
  config.hidden_size = 72;
  EXPECT_THAT(Error(*checkpoint::MakeDummyCheckpoint(config, {}, 1)), HasSubstr("hidden_size: found 72"));
}

TEST_F(LoadModelTest, BlockSizeIsChecked) {
  auto model = Load(*checkpoint::MakeDummyCheckpoint(SmallConfig(), {}, 1));
  ASSERT_TRUE(model.has_value());
  const RunLimits limits{.max_rows = 8, .max_seqs = 2, .logit_group_rows = 2};
  EXPECT_THAT((*model)->Prepare({4, 16}, limits).message(), HasSubstr("block_size: found 16"));
  EXPECT_TRUE((*model)->Prepare({4, 32}, limits).ok());
}

TEST_F(LoadModelTest, CaptureSizesAreChecked) {
  LoadOptions options;
  options.graph.mode = GraphMode::kFullDecodeOnly;
  options.graph.capture_sizes = {{-3}};
  auto model = Load(*checkpoint::MakeDummyCheckpoint(SmallConfig(), {}, 1), options);
  ASSERT_TRUE(model.has_value());
  EXPECT_THAT((*model)->Prepare({4, 32}, {8, 2, 2}).message(), HasSubstr("found -3"));
}

TEST(GraphOptionsTest, DecodesOfPaShapeListDoNotSplitKeys) {
  GraphOptions options;
  EXPECT_TRUE(options.SplitsKeys(48, 48));
  options.pa_shape_list = {48, 64};
  EXPECT_FALSE(options.SplitsKeys(48, 48));
  EXPECT_FALSE(options.SplitsKeys(64, 64));
  EXPECT_TRUE(options.SplitsKeys(56, 56));
  EXPECT_TRUE(options.SplitsKeys(64, 48));  // a prefill is in it
}

// Runs one prefill and returns the logits of its last row.
std::vector<float> LastLogits(CausalLm& model, std::vector<int32_t> tokens,
                              std::vector<int32_t> sampled) {
  std::vector<int32_t> positions;
  for (size_t i = 0; i < tokens.size(); ++i) positions.push_back(static_cast<int32_t>(i));
  const int32_t rows = static_cast<int32_t>(tokens.size());
  const std::vector<int32_t> query_start{0, rows}, context_len{rows}, blocks{1}, last{rows - 1};
  StepBatch batch;
  batch.token_ids = tokens;
  batch.sampled = sampled;
  batch.positions = positions;
  batch.query_start = query_start;
  batch.context_len = context_len;
  const int32_t* const table = blocks.data();
  batch.block_tables = {&table, 1};
  batch.logit_rows = last;
  std::vector<float> logits(model.vocab_size());
  std::vector<int> calls(model.workers());
  const Status status = model.Run(batch, [&](const LogitGroup& group, int worker) {
    ++calls[worker];
    if (worker == 0) std::copy_n(group.row(0), logits.size(), logits.begin());
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(calls, std::vector<int>(model.workers(), 1));
  return logits;
}

TEST_F(LoadModelTest, PlaceholdersBecomeSampledTokens) {
  auto model = Load(*checkpoint::MakeDummyCheckpoint(SmallConfig(), {}, 1));
  ASSERT_TRUE(model.has_value());
  ASSERT_TRUE((*model)->Prepare({4, 32}, {16, 2, 2}).ok());
  const std::vector<float> known = LastLogits(**model, {5, 77, 9}, {});
  EXPECT_EQ(LastLogits(**model, {-2, -1, 9}, {77, 5}), known);
  EXPECT_NE(LastLogits(**model, {-1, -2, 9}, {77, 5}), known);
}

TEST_F(LoadModelTest, WeightPrefetchChangesNoBit) {
  const auto logits = [&](bool enabled) {
    LoadOptions options;
    options.prefetch.enabled = enabled;
    auto model = Load(*checkpoint::MakeDummyCheckpoint(SmallConfig(), {}, 1), options);
    EXPECT_TRUE((*model)->Prepare({4, 32}, {16, 2, 2}).ok());
    return LastLogits(**model, {5, 77, 9}, {});
  };
  EXPECT_EQ(logits(true), logits(false));
}

TEST_F(LoadModelTest, DummyWeightsDependOnTheSeedAlone) {
  const auto logits = [&](uint64_t seed) {
    auto model = Load(*checkpoint::MakeDummyCheckpoint(SmallConfig(), {}, seed));
    EXPECT_TRUE((*model)->Prepare({4, 32}, {16, 2, 2}).ok());
    return LastLogits(**model, {1, 2, 3}, {});
  };
  EXPECT_EQ(logits(1), logits(1));
  EXPECT_NE(logits(1), logits(2));
}

}  // namespace
}  // namespace tiercel::model
