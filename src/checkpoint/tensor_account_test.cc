// Files and configuration account for each other.
#include "checkpoint/tensor_account.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>

namespace tiercel::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.architecture = "Qwen3ForCausalLM";
  config.hidden_size = 64;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.intermediate_size = 96;
  config.vocab_size = 200;
  config.qk_norm = true;
  return config;
}

// Names, shapes and types without data.
class Listing final : public Checkpoint {
 public:
  explicit Listing(ModelConfig config, Quantization quantization = {})
      : config_(std::move(config)), quantization_(std::move(quantization)) {
    for (PlannedShape& t : TensorsOf(config_, Head::kLogits)) tensors_[t.name] = {std::move(t.shape), "BF16"};
  }
  void Add(const std::string& name) { tensors_[name] = {{1}, "BF16"}; }
  void Remove(const std::string& name) { tensors_.erase(name); }
  void RenameAll(const std::string& from, const std::string& to) {
    std::map<std::string, TensorInfo> renamed;
    for (auto& [name, info] : tensors_) {
      renamed[name.starts_with(from) ? to + name.substr(from.size()) : name] = info;
    }
    tensors_ = std::move(renamed);
  }

  const ModelConfig& config() const override { return config_; }
  const GenerationConfig& generation_config() const override { return generation_; }
  const Quantization& quantization() const override { return quantization_; }
  std::optional<TensorInfo> Find(const std::string& name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? std::nullopt : std::optional(it->second);
  }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& [name, info] : tensors_) names.push_back(name);
    return names;
  }
  int64_t FileBytes() const override { return 0; }
  Status ReadRows(const std::string& name, int64_t, int64_t, BF16*) const override {
    return NotFound("/models/m: tensor \"{}\" is missing", name);
  }
  Status ReadRows(const std::string& name, int64_t, int64_t, float*) const override {
    return NotFound("/models/m: tensor \"{}\" is missing", name);
  }
  const BF16* MappedBF16(const std::string&) const override { return nullptr; }
  void WillNeed(const std::string&) const override {}
  void DontNeed(const std::string&) const override {}

 private:
  ModelConfig config_;
  GenerationConfig generation_;
  Quantization quantization_;
  std::map<std::string, TensorInfo> tensors_;
};

std::string Error(const Listing& listing) {
  const auto account = AccountForTensors(listing, Head::kLogits);
  return account ? "no error" : account.error().message();
}
std::vector<std::string> Warnings(const Listing& listing) {
  const auto account = AccountForTensors(listing, Head::kLogits);
  EXPECT_TRUE(account) << account.error();
  return account.value_or(std::vector<std::string>());
}

TEST(TensorAccount, ExactlyTheModelIsQuiet) {
  Listing listing(SmallConfig());
  EXPECT_THAT(Warnings(listing), IsEmpty());
  // What older versions saved beside it.
  listing.Add("model.layers.0.self_attn.rotary_emb.inv_freq");
  listing.Add("model.layers.7.self_attn.rotary_emb.inv_freq");
  listing.Add("model.rotary_emb.inv_freq");
  listing.Add("rope_freqs.weight");
  listing.Add("model.layers.0.self_attn.k_scale");  // of an FP8 cache, which it may have
  listing.Add("model.layers.0.self_attn.v_proj.output_scale");
  EXPECT_THAT(Warnings(listing), IsEmpty());
  ModelConfig tied = SmallConfig();
  tied.tie_word_embeddings = true;
  Listing with_head(tied);
  with_head.Add("lm_head.weight");  // the loader says so
  EXPECT_THAT(Warnings(with_head), IsEmpty());
}

TEST(TensorAccount, AllThatIsMissingInOneMessage) {
  Listing listing(SmallConfig());
  listing.Remove("model.norm.weight");
  EXPECT_EQ(Error(listing), "/models/m: tensor \"model.norm.weight\" is missing");
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    listing.Remove(fmt::format("model.layers.1.self_attn.{}.weight", name));
  }
  EXPECT_EQ(Error(listing),
            "/models/m: tensor \"model.norm.weight\" is missing; 5 of 36 tensors of the configuration "
            "are missing: model.norm.weight, model.layers.1.self_attn.q_proj.weight, "
            "model.layers.1.self_attn.k_proj.weight, model.layers.1.self_attn.v_proj.weight and 1 "
            "more");
}

TEST(TensorAccount, HintsSayWhy) {
  Listing bare(SmallConfig());
  bare.RenameAll("model.", "");
  EXPECT_THAT(Error(bare),
              AllOf(HasSubstr("35 of 36 tensors"), HasSubstr("names begin with \"model.\""),
                    HasSubstr("found \"embed_tokens.weight\" where "
                              "\"model.embed_tokens.weight\" is expected")));
  Listing nested(SmallConfig());
  nested.RenameAll("model.", "model.language_model.");
  EXPECT_THAT(Error(nested), HasSubstr("found \"model.language_model.embed_tokens.weight\""));
  Listing headless(SmallConfig());
  headless.Remove("lm_head.weight");
  EXPECT_THAT(Error(headless), HasSubstr("tie_word_embeddings is false in config.json"));
  ModelConfig more = SmallConfig();
  more.num_layers = 5;
  Listing longer(more);
  longer.RenameAll("model.layers.3.", "a.");
  longer.RenameAll("model.layers.4.", "b.");
  EXPECT_THAT(Error(longer), HasSubstr("the files hold 3 layers, num_hidden_layers is 5"));
}

TEST(TensorAccount, MoreLayersAreRefused) {
  ModelConfig fewer = SmallConfig();
  Listing listing(fewer);
  listing.Add("model.layers.3.mlp.up_proj.weight");
  listing.Add("model.layers.4.mlp.up_proj.weight");
  EXPECT_EQ(Error(listing),
            "num_hidden_layers is 3, and the files hold 2 tensors of 2 more layers "
            "(model.layers.3.mlp.up_proj.weight, model.layers.4.mlp.up_proj.weight); it "
            "belongs to another model, or files of several lie in the folder");
  Listing gguf(fewer);
  gguf.Add("blk.3.nextn.eh_proj.weight");
  EXPECT_THAT(Error(gguf), HasSubstr("1 tensors of 1 more layers"));
}

TEST(TensorAccount, WhatIsNotReadIsCountedAndNamed) {
  Listing listing(SmallConfig());
  listing.Add("model.layers.0.self_attn.q_proj.weight_scale");
  listing.Add("model.layers.0.self_attn.k_proj.q_scale");
  listing.Add("score.weight");
  for (int i = 0; i < 3; ++i) listing.Add(fmt::format("visual.blocks.{}.weight", i));
  EXPECT_THAT(Warnings(listing),
              ElementsAre(AllOf(HasSubstr("6 of 42 tensors in the files are not read"),
                                HasSubstr("model.layers.0.self_attn.k_proj.q_scale"),
                                HasSubstr("and 2 more"))));
  Listing rude(SmallConfig());
  rude.Add("a\nb\x1b[2J" + std::string(5000, 'c'));
  ASSERT_EQ(Warnings(rude).size(), 1u);
  EXPECT_THAT(Warnings(rude)[0], AllOf(Not(HasSubstr("\n")), Not(HasSubstr("\x1b"))));
  EXPECT_LT(Warnings(rude)[0].size(), 400u);
}

TEST(TensorAccount, QuantizedModelsHaveMore) {
  const std::string linear = "model.layers.0.mlp.up_proj", other = "model.layers.0.mlp.down_proj";
  std::string json = "{";
  for (const PlannedShape& t : TensorsOf(SmallConfig(), Head::kLogits)) {
    json += fmt::format(R"("{}": "{}",)", t.name, t.name == linear + ".weight" ? "W8A8" : "FLOAT");
  }
  json.back() = '}';
  Listing listing(SmallConfig(), *Quantization::ParseDescription(json, "d.json"));
  for (const char* end : {".input_scale", ".input_offset", ".deq_scale", ".quant_bias",
                          ".weight_scale", ".weight_offset"}) {
    listing.Add(linear + end);
  }
  listing.Add("model.layers.0.input_layernorm.bias");
  listing.Add("model.layers.0.input_layernorm.module.weight");
  // The linear's own type decides: INT8 would be read.
  EXPECT_THAT(Warnings(listing), IsEmpty());
  listing.Add(other + ".input_scale");
  EXPECT_THAT(Warnings(listing), ElementsAre(HasSubstr(other + ".input_scale")));
}

}  // namespace
}  // namespace tiercel::checkpoint
