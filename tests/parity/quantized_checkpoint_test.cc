// What `tiercel quantize` writes, and checkpoints made of it: mixes of schemes, other formats, broken
// files. Truth is the float model that it was made from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/safetensors_writer.h"
#include "parity/cosine.h"
#include "parity/model_runner.h"
#include "quantize/model_quantizer.h"

namespace tiercel::parity {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using nlohmann::json;
using Logits = std::vector<std::vector<float>>;
using quantize::QuantizeOptions;
using quantize::QuantScheme;

namespace fs = std::filesystem;

std::string Source(const std::string& model) {
  return std::string(TIERCEL_TEST_DATA) + "/models/" + model;
}

std::vector<int32_t> Tokens(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 500);
  return tokens;
}

json ReadJson(const fs::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

Expected<Logits> RunModel(const std::string& folder, const RunnerOptions& options = {}) {
  ASSIGN_OR_RETURN(const auto runner, ModelRunner::Create(folder, options));
  const int sequence = runner->NewSequence();
  const std::vector<int32_t> tokens = Tokens(40, 7);
  runner->Step({{sequence, {tokens.begin(), tokens.end() - 4}}});  // many rows
  Logits logits = runner->logits();
  runner->Step({{sequence, {tokens.end() - 4, tokens.end()}}});  // few
  logits.insert(logits.end(), runner->logits().begin(), runner->logits().end());
  return logits;
}

class QuantizedCheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / fmt::format("tiercel_quantized_{}", ::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    auto environment = kernels::Environment::Create({.threads = 2, .isa = "", .pin = false});
    ASSERT_TRUE(environment.has_value()) << environment.error();
    environment_ = std::move(*environment);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Quantize(const std::string& model, QuantScheme scheme, double smooth = 0,
                std::vector<std::string> exclude = {}) {
    QuantizeOptions options;
    options.scheme = scheme;
    options.smooth = smooth;
    options.exclude = std::move(exclude);
    options.static_loss = 1;
    Quantize(model, std::move(options));
  }
  void Quantize(const std::string& model, QuantizeOptions options) {
    if (options.scheme != QuantScheme::kDynamic || options.smooth > 0 || options.kv_int8) {
      options.calibration = {Tokens(200, 1), Tokens(77, 2)};
    }
    const auto checkpoint = checkpoint::Checkpoint::Open(Source(model));
    ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error();
    const auto written = quantize::QuantizeModel(**checkpoint, options, environment_.get(), folder_, {});
    ASSERT_TRUE(written.has_value()) << written.error();
    fs::copy_file(Source(model) + "/config.json", folder_ / "config.json",
                  fs::copy_options::overwrite_existing);
  }

  struct Tensor {
    DType dtype;
    std::vector<int64_t> shape;
    std::vector<uint8_t> bytes;

    std::vector<float> Values() const {
      std::vector<float> values(bytes.size() / sizeof(float));
      std::memcpy(values.data(), bytes.data(), bytes.size());
      return values;
    }
    void Set(const std::vector<float>& values) {
      dtype = DType::kF32;
      bytes.resize(values.size() * sizeof(float));
      std::memcpy(bytes.data(), values.data(), bytes.size());
    }
  };
  using Tensors = std::map<std::string, Tensor>;

  Tensors ReadTensors() const {
    Tensors tensors;
    const auto checkpoint = checkpoint::Checkpoint::Open(folder_);
    EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error();
    for (const std::string& name : (*checkpoint)->Names()) {
      const checkpoint::TensorInfo info = *(*checkpoint)->Find(name);
      const DType dtype = info.type == "I8"    ? DType::kI8
                          : info.type == "I32" ? DType::kI32
                          : info.type == "F32" ? DType::kF32
                                               : DType::kBF16;
      const int64_t bytes = checkpoint::PlannedTensor{name, dtype, info.shape}.bytes();
      const uint8_t* data = (*checkpoint)->MappedBytes(name);
      tensors[name] = {dtype, info.shape, {data, data + bytes}};
    }
    return tensors;
  }
  // In place of the folder's weights.
  void WriteTensors(const Tensors& tensors) const {
    for (const auto& entry : fs::directory_iterator(folder_)) {
      if (entry.path().filename().string().starts_with("quant_model_weight")) {
        fs::remove(entry.path());
      }
    }
    std::vector<checkpoint::PlannedTensor> plan;
    for (const auto& [name, t] : tensors) plan.push_back({name, t.dtype, t.shape});
    checkpoint::SafetensorsWriter writer(folder_, "quant_model_weights", 1);
    ASSERT_TRUE(writer.BeginPart(plan).ok());
    for (const auto& [name, t] : tensors) ASSERT_TRUE(writer.Write(name, t.bytes).ok());
    ASSERT_TRUE(writer.Finish().ok());
  }

  json Description() const { return ReadJson(folder_ / "quant_model_description.json"); }
  void SetDescription(const json& description) const {
    std::ofstream(folder_ / "quant_model_description.json") << description;
  }
  // Says in config.json that all linears are compressed-tensors' INT8, with such activations.
  void SetCompressedTensors(const std::string& input_activations) const {
    json config = ReadJson(folder_ / "config.json");
    config["quantization_config"] = json::parse(R"({"quant_method": "compressed-tensors",
        "format": "int-quantized", "ignore": ["lm_head"], "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}}})");
    config["quantization_config"]["config_groups"]["group_0"]["input_activations"] =
        json::parse(input_activations);
    std::ofstream(folder_ / "config.json") << config;
  }
  // Gives every linear whose name contains `part` another type.
  void Retype(const std::string& part, const std::string& type) const {
    json description = Description();
    for (auto& [name, value] : description.items()) {
      if (name.find(part) != std::string::npos && value != "FLOAT") value = type;
    }
    SetDescription(description);
  }
  double CosineToFloat(const std::string& model, const RunnerOptions& options = {}) const {
    const auto quantized = RunModel(folder_, options);
    const auto truth = RunModel(Source(model));
    EXPECT_TRUE(quantized.has_value()) << quantized.error();
    EXPECT_TRUE(truth.has_value()) << truth.error();
    return quantized && truth ? Cosine(*quantized, *truth) : 0;
  }
  std::string Error() const {
    const auto logits = RunModel(folder_);
    return logits.has_value() ? "no error" : logits.error().message();
  }

  fs::path folder_;
  std::unique_ptr<kernels::Environment> environment_;
};

// Qwen3 without biases, Qwen2 with them on q, k, v and Llama with them everywhere.
TEST_F(QuantizedCheckpointTest, EverySchemeStaysCloseToTheFloatModel) {
  for (const char* model : {"qwen3-tied", "qwen2-tied-linear", "llama-tied-biased"}) {
    for (const QuantScheme scheme :
         {QuantScheme::kStatic, QuantScheme::kDynamic, QuantScheme::kMix}) {
      for (const double smooth : {0.0, 0.5}) {
        SetUp();
        Quantize(model, scheme, smooth);
        RunnerOptions options;
        // Random models have no outliers that smoothing could remove: it costs a little there.
        const double bound = smooth > 0 ? 0.99 : 0.995;
        EXPECT_GT(CosineToFloat(model, options), bound)
            << model << " scheme " << static_cast<int>(scheme) << " smooth " << smooth;
        if (scheme != QuantScheme::kMix) continue;
        options.weights.mix_static = true;
        EXPECT_GT(CosineToFloat(model, options), bound) << model << " mix as static " << smooth;
      }
    }
  }
}

// What smoothing moves from one weight to another is all there: without quantization nothing changes
// but roundings to BF16.
TEST_F(QuantizedCheckpointTest, SmoothingAloneChangesNothing) {
  for (const char* model : {"qwen3-tied", "qwen2-tied-linear", "llama-tied-biased"}) {
    SetUp();
    Quantize(model, QuantScheme::kDynamic, 0.5, {"*"});
    EXPECT_GT(CosineToFloat(model), 0.9995) << model;
  }
}

TEST_F(QuantizedCheckpointTest, QuantizingAtLoadGivesTheSameBits) {
  for (const char* model : {"qwen3-tied", "llama-tied-biased"}) {
    SetUp();
    Quantize(model, QuantScheme::kDynamic);
    RunnerOptions at_load;
    at_load.quantization = "int8";
    at_load.weights.quantize = checkpoint::QuantizeTo::kInt8;
    const auto expected = RunModel(folder_);
    const auto logits = RunModel(Source(model), at_load);
    ASSERT_TRUE(expected.has_value() && logits.has_value());
    EXPECT_EQ(*logits, *expected);
  }
}

// Shards of q, k, v and of gate, up that are float, dynamic and static: each by itself.
TEST_F(QuantizedCheckpointTest, ShardsOfAFusedLinearMayDiffer) {
  const std::string model = "llama-tied-biased";
  Quantize(model, QuantScheme::kDynamic, 0, {"*.gate_proj", "*.k_proj"});
  EXPECT_GT(CosineToFloat(model), 0.995);

  SetUp();
  Quantize(model, QuantScheme::kMix, 0, {"model.layers.0.*.v_proj", "*1.mlp.up_proj"});
  Retype("q_proj", "W8A8");
  Retype("k_proj", "W8A8_DYNAMIC");
  Retype("gate_proj", "W8A8");
  Retype("0.mlp.up_proj", "W8A8_DYNAMIC");
  EXPECT_GT(CosineToFloat(model), 0.995);
}

// Where weights lie changes no bit, whether float or INT8, and whether or not steps are captured.
TEST_F(QuantizedCheckpointTest, WeightsOnDiskGiveTheSameBits) {
  for (const char* model : {"qwen3-tied", "llama-tied-biased"}) {
    for (const bool quantize : {false, true}) {
      for (const int workers : {1, 2}) {
        RunnerOptions options;
        options.team.workers = workers;
        if (quantize) options.weights.quantize = checkpoint::QuantizeTo::kInt8;
        const auto in_memory = RunModel(Source(model), options);
        ASSERT_TRUE(in_memory.has_value()) << in_memory.error();
        options.weights.max_bytes_in_memory = 0;
        options.weights.disk_folders = {"/nowhere", fs::current_path(), "/var/tmp"};
        const auto on_disk = RunModel(Source(model), options);
        ASSERT_TRUE(on_disk.has_value()) << on_disk.error();
        EXPECT_TRUE(*on_disk == *in_memory) << model << " workers " << workers;
      }
    }
  }
  RunnerOptions options;
  options.weights.max_bytes_in_memory = 1000;
  EXPECT_THAT(RunModel(Source("qwen3-tied"), options).error().message(),
              HasSubstr("do not fit into memory"));
  options.weights.disk_folders = {"/nowhere"};
  EXPECT_THAT(RunModel(Source("qwen3-tied"), options).error().message(), HasSubstr("/nowhere"));
}

// No input loses less than nothing: all linears are dynamic. None loses more than everything.
TEST_F(QuantizedCheckpointTest, StaticLinearsThatLoseTooMuchAreDynamic) {
  for (const double loss : {0.0, 1.0}) {
    SetUp();
    QuantizeOptions options;
    options.scheme = QuantScheme::kStatic;
    options.static_loss = loss;
    options.exclude = {"*.0.mlp.down_proj"};
    Quantize("qwen3-tied", options);
    int linears = 0;
    const json description = Description();
    for (const auto& [name, type] : description.items()) {
      if (!name.ends_with("_proj.weight")) continue;
      const bool excluded = name.find(".0.mlp.down_proj") != std::string::npos;
      EXPECT_EQ(type, excluded ? "FLOAT" : loss == 0 ? "W8A8_DYNAMIC" : "W8A8") << name;
      ++linears;
    }
    EXPECT_EQ(linears % 7, 0);
    EXPECT_GT(CosineToFloat("qwen3-tied"), 0.995);
  }
}

// Scales for the cache change the model's results a little, and only where the cache is INT8.
TEST_F(QuantizedCheckpointTest, ScalesForTheCacheComeFromCalibration) {
  for (const char* model : {"qwen3-tied", "qwen2-tied-linear", "llama-tied-biased"}) {
    for (const double smooth : {0.0, 0.5}) {
      SetUp();
      Quantize(model, QuantScheme::kDynamic, smooth);
      const double without = CosineToFloat(model);
      SetUp();
      QuantizeOptions options;
      options.smooth = smooth;
      options.kv_int8 = true;
      Quantize(model, options);
      EXPECT_EQ(Description()["kv_cache_type"], "C8");
      const double with = CosineToFloat(model);
      EXPECT_NE(with, without) << model;
      EXPECT_GT(with, without - 0.003) << model << " smooth " << smooth;
      RunnerOptions float_cache;
      float_cache.weights.kv_dtype = DType::kBF16;
      EXPECT_EQ(CosineToFloat(model, float_cache), without) << model;
    }
  }
}

TEST_F(QuantizedCheckpointTest, BadScalesForTheCacheAreRefused) {
  QuantizeOptions options;
  options.kv_int8 = true;
  Quantize("qwen3-tied", options);
  const Tensors good = ReadTensors();
  const std::string attention = "model.layers.1.self_attn.";
  const std::string scale = attention + "k_proj.kv_cache_scale";
  const std::string offset = attention + "v_proj.kv_cache_offset";
  const auto error = [&](const std::string& name, const auto& change) {
    Tensors tensors = good;
    change(tensors, tensors.at(name));
    WriteTensors(tensors);
    return Error();
  };
  const auto value = [](float x) {
    return [x](Tensors&, Tensor& t) {
      std::vector<float> values = t.Values();
      values.back() = x;
      t.Set(values);
    };
  };
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float x : {0.0f, -1.0f, infinity, std::nanf(""), 1e-30f, 1e30f}) {
    EXPECT_THAT(error(scale, value(x)), AllOf(HasSubstr(scale), HasSubstr("expected a scale"))) << x;
  }
  for (const float x : {infinity, -infinity, std::nanf("")}) {
    EXPECT_THAT(error(offset, value(x)), AllOf(HasSubstr(offset), HasSubstr("finite offset"))) << x;
  }
  EXPECT_THAT(error(offset,
                    [](Tensors&, Tensor& t) {
                      t.shape = {t.shape[0] - 1};
                      t.bytes.resize(t.bytes.size() - sizeof(float));
                    }),
              HasSubstr(offset));
  EXPECT_THAT(error(scale, [](Tensors&, Tensor& t) { t.dtype = DType::kI32; }), HasSubstr(scale));
  EXPECT_THAT(error(scale, [&](Tensors& all, Tensor&) { all.erase(scale); }), HasSubstr(scale));
  // One for all channels is allowed.
  EXPECT_EQ(error(offset,
                  [](Tensors&, Tensor& t) {
                    t.shape = {1};
                    t.Set({0.0f});
                  }),
            "no error");
}

TEST_F(QuantizedCheckpointTest, StaticShardsWithInputScalesOfTheirOwn) {
  Quantize("qwen3-tied", QuantScheme::kStatic);
  // Twice the scale for q alone: coarser, and still right.
  Tensors tensors = ReadTensors();
  for (auto& [name, t] : tensors) {
    if (name.ends_with("q_proj.input_scale") || name.ends_with("q_proj.deq_scale")) {
      std::vector<float> values = t.Values();
      for (float& x : values) x *= 2;
      t.Set(values);
    } else if (name.ends_with("q_proj.input_offset") || name.ends_with("q_proj.quant_bias")) {
      std::fill(t.bytes.begin(), t.bytes.end(), 0);
    }
  }
  WriteTensors(tensors);
  EXPECT_GT(CosineToFloat("qwen3-tied"), 0.99);
}

TEST_F(QuantizedCheckpointTest, W8A16IsDequantized) {
  Quantize("qwen3-untied-yarn", QuantScheme::kDynamic);
  Retype("_proj.", "W8A16");
  EXPECT_GT(CosineToFloat("qwen3-untied-yarn"), 0.999);
}

TEST_F(QuantizedCheckpointTest, QuantizedHead) {
  for (const char* model : {"qwen3-tied", "qwen3-untied-yarn"}) {
    RunnerOptions options;
    options.weights.quantize_lm_head = true;
    const auto head = RunModel(Source(model), options);
    const auto truth = RunModel(Source(model));
    ASSERT_TRUE(head.has_value() && truth.has_value());
    EXPECT_NE(*head, *truth);
    EXPECT_GT(Cosine(*head, *truth), 0.999);
  }
}

TEST_F(QuantizedCheckpointTest, CompressedTensorsReadsTheSameNumbers) {
  Quantize("qwen3-tied", QuantScheme::kDynamic);
  const auto expected = RunModel(folder_);
  fs::remove(folder_ / "quant_model_description.json");
  EXPECT_THAT(Error(), AllOf(HasSubstr("INT8"), HasSubstr("quant_model_description.json")));
  SetCompressedTensors(R"({"num_bits": 8, "type": "int", "strategy": "token", "dynamic": true})");
  const auto logits = RunModel(folder_);
  ASSERT_TRUE(expected.has_value() && logits.has_value()) << logits.error();
  EXPECT_EQ(*logits, *expected);
}

// The same static model in both formats: one scale and no offset for an input.
TEST_F(QuantizedCheckpointTest, StaticCompressedTensorsReadsTheSameNumbers) {
  Quantize("qwen3-tied", QuantScheme::kStatic);
  Tensors tensors = ReadTensors();
  Tensors compressed;
  for (auto& [name, t] : tensors) {
    const std::string linear = name.substr(0, name.rfind('.'));
    if (name.ends_with(".deq_scale")) {
      // Powers of two, so that deq_scale = input_scale · weight_scale is exact.
      const float input = std::exp2(std::round(
          std::log2(tensors.at(linear + ".input_scale").Values().front())));
      std::vector<float> weight = t.Values();
      for (float& x : weight) x /= tensors.at(linear + ".input_scale").Values().front();
      std::vector<float> product = weight;
      for (float& x : product) x *= input;
      Tensor& column = compressed[linear + ".weight_scale"];
      column.shape = {static_cast<int64_t>(weight.size()), 1};
      column.Set(weight);
      Tensor& scale = compressed[linear + ".input_scale"];
      scale.shape = {1};
      scale.Set({input});
      t.Set(product);
    } else if (name.ends_with(".input_offset") || name.ends_with(".quant_bias")) {
      std::fill(t.bytes.begin(), t.bytes.end(), 0);
    } else if (!name.ends_with(".input_scale") && !name.ends_with(".weight_scale") &&
               !name.ends_with(".weight_offset") && name != "model.norm.bias" &&
               !name.ends_with("layernorm.bias")) {
      compressed[name] = t;
    }
  }
  for (auto& [name, t] : tensors) {
    if (name.ends_with(".input_scale")) t.Set(compressed.at(name).Values());
    if (name.ends_with("norm.bias")) std::fill(t.bytes.begin(), t.bytes.end(), 0);
  }
  WriteTensors(tensors);
  const auto expected = RunModel(folder_);
  ASSERT_TRUE(expected.has_value()) << expected.error();

  WriteTensors(compressed);
  fs::remove(folder_ / "quant_model_description.json");
  SetCompressedTensors(R"({"num_bits": 8, "type": "int", "strategy": "tensor"})");
  const auto logits = RunModel(folder_);
  ASSERT_TRUE(logits.has_value()) << logits.error();
  EXPECT_EQ(*logits, *expected);
}

TEST_F(QuantizedCheckpointTest, FilesThatDoNotFitAreRefused) {
  Quantize("qwen3-tied", QuantScheme::kMix);
  const json good = Description();
  const std::string linear = "model.layers.0.mlp.up_proj.";

  json bad = good;
  bad["model.layers.7.mlp.up_proj.weight"] = "W8A8";
  SetDescription(bad);
  EXPECT_THAT(Error(), AllOf(HasSubstr("quant_model_description.json"),
                             HasSubstr("names tensor \"model.layers.7.mlp.up_proj.weight\"")));
  bad = good;
  bad.erase(linear + "weight");
  SetDescription(bad);
  EXPECT_THAT(Error(), HasSubstr("no entry for tensor \"" + linear + "weight\""));
  bad = good;
  bad[linear + "weight"] = "W4A4_DYNAMIC";
  SetDescription(bad);
  EXPECT_THAT(Error(), AllOf(HasSubstr("found type \"W4A4_DYNAMIC\""), HasSubstr("W8A8_MIX")));
  bad = good;
  bad[linear + "weight"] = "FLOAT";
  SetDescription(bad);
  EXPECT_THAT(Error(), HasSubstr("says FLOAT, and the tensor is stored as I8"));
  bad = good;
  bad["model.norm.weight"] = "W8A8";  // no linear: nothing that the description could change
  SetDescription(bad);
  EXPECT_EQ(Error(), "no error");
}

TEST_F(QuantizedCheckpointTest, StaticNeedsItsTensors) {
  Quantize("qwen3-tied", QuantScheme::kDynamic);
  Retype("up_proj", "W8A8");
  EXPECT_THAT(Error(), HasSubstr("model.layers.0.mlp.up_proj.input_scale"));
}

TEST_F(QuantizedCheckpointTest, NothingIsQuantizedTwiceOrWithoutCalibration) {
  Quantize("qwen3-tied", QuantScheme::kDynamic);
  const auto checkpoint = checkpoint::Checkpoint::Open(folder_);
  ASSERT_TRUE(checkpoint.has_value());
  QuantizeOptions options;
  EXPECT_THAT(quantize::QuantizeModel(**checkpoint, options, environment_.get(), folder_, {}).error().message(),
              HasSubstr("quantized already"));
  const auto source = checkpoint::Checkpoint::Open(Source("qwen3-tied"));
  options.scheme = QuantScheme::kStatic;
  EXPECT_THAT(quantize::QuantizeModel(**source, options, environment_.get(), folder_, {}).error().message(),
              HasSubstr("W8A8 needs --calibration"));
}

}  // namespace
}  // namespace tiercel::parity
