// What checkpoints say about their quantization, and what they may not say.
#include "checkpoint/quantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace tiercel::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace fs = std::filesystem;

Quantization Description(const std::string& json) {
  auto parsed = Quantization::ParseDescription(json, "m/quant_model_description.json");
  EXPECT_TRUE(parsed.has_value()) << parsed.error();
  return parsed.has_value() ? std::move(*parsed) : Quantization();
}

std::string DescriptionError(const std::string& json) {
  const auto parsed = Quantization::ParseDescription(json, "m/quant_model_description.json");
  return parsed.has_value() ? "no error" : parsed.error().message();
}

std::string ConfigError(const std::string& json) {
  const auto parsed = Quantization::ParseConfig(json, "", "m/config.json");
  return parsed.has_value() ? "no error" : parsed.error().message();
}

TEST(QuantDescription, EveryTypeOfALinear) {
  const Quantization q = Description(R"({
      "model_quant_type": "W8A8", "version": "1.0.0", "group_size": 0, "metadata": {"a.b": 1},
      "optional": null,
      "a.weight": "FLOAT", "b.weight": "W8A8", "c.weight": "W8A8_DYNAMIC", "d.weight": "W8A8_MIX",
      "e.weight": "W8A16", "b.deq_scale": "W8A8", "f.weight": "W4A8_DYNAMIC", "g.weight": "W4A16"})");
  EXPECT_EQ(q.method(), QuantMethod::kAscend);
  EXPECT_EQ(*q.SchemeOf("a", "BF16"), LinearScheme::kFloat);
  EXPECT_EQ(*q.SchemeOf("b", "I8"), LinearScheme::kStatic);
  EXPECT_EQ(*q.SchemeOf("c", "I8"), LinearScheme::kDynamic);
  EXPECT_EQ(*q.SchemeOf("d", "I8"), LinearScheme::kMix);
  EXPECT_EQ(*q.SchemeOf("e", "I8"), LinearScheme::kWeightOnly);
  EXPECT_EQ(*q.SchemeOf("f", "I4"), LinearScheme::kInt4);
  EXPECT_EQ(*q.SchemeOf("g", "I4"), LinearScheme::kInt4WeightOnly);
  EXPECT_FALSE(q.kv_cache().has_value());
  EXPECT_THAT(q.notices(), IsEmpty());
  EXPECT_THAT(q.TensorNames(),
              ElementsAre("a.weight", "b.deq_scale", "b.weight", "c.weight", "d.weight", "e.weight", "f.weight",
                          "g.weight"));
  EXPECT_EQ(q.DescribedScheme("f"), LinearScheme::kInt4);
  EXPECT_EQ(q.DescribedScheme("h"), std::nullopt);
  EXPECT_EQ(q.group_size(), 0);
  EXPECT_TRUE(q.HasInt8());
}

TEST(QuantDescription, GroupsOfFourBits) {
  for (const auto& [json, size] : {std::pair{"256", 256}, {"0", 0}, {"-1", 0}, {"null", 0}, {"\"256\"", 0}, {"1e300", 0},
                                   {"18446744073709551615", 0}}) {
    const Quantization q = Description(fmt::format(R"({{"group_size": {}, "a.weight": "W4A8_DYNAMIC", "a.weight_scale": "W4A8_DYNAMIC"}})", json));
    EXPECT_EQ(q.group_size(), size) << json;
    EXPECT_FALSE(q.HasInt8());
  }
}

TEST(QuantDescription, DuplicatesOfOldVersionsDoNotCount) {
  const Quantization q = Description(
      R"({"l.input_layernorm.module.weight": "W8A8", "l.input_layernorm.weight": "FLOAT"})");
  EXPECT_THAT(q.TensorNames(), ElementsAre("l.input_layernorm.weight"));
}

TEST(QuantDescription, KvCache) {
  EXPECT_TRUE(Description(R"({"kv_cache_type": "C8", "a.weight": "FLOAT"})").kv_cache() == DType::kI8);
  EXPECT_TRUE(Description(R"({"kv_quant_type": "C8", "a.weight": "FLOAT"})").kv_cache() == DType::kI8);
  const Quantization other = Description(R"({"kv_cache_type": "C4", "a.weight": "FLOAT"})");
  EXPECT_FALSE(other.kv_cache().has_value());
  EXPECT_THAT(other.notices(), ElementsAre(HasSubstr("kv_cache_type \"C4\"")));
}

TEST(QuantDescription, WhatIsWrongIsNamed) {
  const Quantization q = Description(
      R"({"a.weight": "FLOAT", "b.weight": "W8A8", "c.weight": "W4A4_DYNAMIC", "d.weight": "W4A8_DYNAMIC"})");
  const auto error = [&](const char* name, const char* type) {
    const auto scheme = q.SchemeOf(name, type);
    return scheme.has_value() ? "no error" : scheme.error().message();
  };
  EXPECT_THAT(error("missing", "I8"), AllOf(HasSubstr("m/quant_model_description.json"),
                                            HasSubstr("no entry for tensor \"missing.weight\"")));
  EXPECT_THAT(error("c", "I8"), AllOf(HasSubstr("c.weight: found type \"W4A4_DYNAMIC\""),
                                      HasSubstr("FLOAT, W8A8, W8A8_DYNAMIC, W8A8_MIX, W8A16, W4A8_DYNAMIC, W4A16")));
  EXPECT_THAT(error("a", "I8"), HasSubstr("says FLOAT, and the tensor is stored as I8"));
  EXPECT_THAT(error("b", "BF16"), HasSubstr("says W8A8, and the tensor is stored as BF16"));
  EXPECT_THAT(error("d", "BF16"), HasSubstr("says W4A8_DYNAMIC, and the tensor is stored as BF16"));
  for (const char* name : {"a", "b"}) EXPECT_THAT(error(name, "I4"), HasSubstr("the tensor is stored as I4"));

  EXPECT_THAT(DescriptionError("[]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(DescriptionError("{}"), HasSubstr("names no tensor"));
  EXPECT_THAT(DescriptionError("{\"a.weight\": 8}"), HasSubstr("a.weight: found 8"));
  EXPECT_THAT(DescriptionError("{\"a.\\nb\": \"W8A8\"}"), HasSubstr("found the name \"a.\\nb\""));
  EXPECT_THAT(DescriptionError(std::string(100000, '[')), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(DescriptionError("{\"a.weight\": "), HasSubstr("not valid JSON"));
}

TEST(QuantDescription, Int8WeightsWithoutADescriptionAreRefused) {
  const Quantization none;
  EXPECT_EQ(*none.SchemeOf("a", "BF16"), LinearScheme::kFloat);
  EXPECT_THAT(none.SchemeOf("a", "I8").error().message(),
              AllOf(HasSubstr("a.weight"), HasSubstr("INT8"),
                    HasSubstr("quant_model_description.json")));
}

// A compressed-tensors configuration with parts replaced.
std::string Compressed(const std::string& weights, const std::string& input,
                       const std::string& more = "") {
  return R"({"quantization_config": {"quant_method": "compressed-tensors", )" + more +
         R"("ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"], "weights": )" +
         weights + R"(, "input_activations": )" + input + "}}}}";
}

constexpr char kWeights[] =
    R"({"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false})";
constexpr char kToken[] =
    R"({"num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true})";

TEST(CompressedTensors, Int8Schemes) {
  const auto scheme = [](const std::string& input) {
    const auto q = Quantization::ParseConfig(Compressed(kWeights, input), "", "m/config.json");
    EXPECT_TRUE(q.has_value()) << q.error();
    EXPECT_EQ(q->method(), QuantMethod::kCompressedTensors);
    EXPECT_EQ(*q->SchemeOf("a", "BF16"), LinearScheme::kFloat);  // "ignore"
    return *q->SchemeOf("a", "I8");
  };
  EXPECT_EQ(scheme(kToken), LinearScheme::kDynamic);
  EXPECT_EQ(scheme(R"({"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": false})"),
            LinearScheme::kStatic);
  EXPECT_EQ(scheme("null"), LinearScheme::kWeightOnly);
}

TEST(CompressedTensors, KvCacheScheme) {
  const std::string scheme =
      R"("kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false, "symmetric": true}, )";
  const auto q = Quantization::ParseConfig(Compressed(kWeights, kToken, scheme), "", "m/config.json");
  ASSERT_TRUE(q.has_value()) << q.error();
  EXPECT_EQ(q->kv_cache(), DType::kF8E4M3);
  EXPECT_EQ(*q->SchemeOf("a", "I8"), LinearScheme::kDynamic);
  EXPECT_THAT(q->notices(), IsEmpty());
  // The same of linears that another reader is for, and alone.
  const std::string others[] = {
      R"({"quantization_config": {"quant_method": "compressed-tensors", )" + scheme + R"("format": "pack-quantized"}})",
      R"({"quantization_config": {"quant_method": "compressed-tensors", )" + scheme + R"("format": "float-quantized"}})"};
  for (const std::string& other : others) {
    EXPECT_EQ(Quantization::ParseKvCache(other, "", "m/config.json")->kv_cache(), DType::kF8E4M3);
  }
  const auto alone = Quantization::ParseConfig(R"({"quantization_config": {"quant_method": "compressed-tensors", )" + scheme +
                                                   R"("format": "dense", "config_groups": {}}})",
                                               "", "m/config.json");
  ASSERT_TRUE(alone.has_value()) << alone.error();
  EXPECT_EQ(alone->kv_cache(), DType::kF8E4M3);
  EXPECT_EQ(alone->method(), QuantMethod::kNone);
  EXPECT_FALSE(Quantization::ParseKvCache("{}", "", "m/config.json")->kv_cache().has_value());
  for (const auto& [json, words] :
       {std::pair{R"({"num_bits": 8, "type": "int"})", "found \"int\", 8 bits by \"tensor\""},
        {R"({"num_bits": 4, "type": "float"})", "4 bits"},
        {R"({"num_bits": 8, "type": "float", "strategy": "attn_head"})", "by \"attn_head\""},
        {R"({"num_bits": 8, "type": "float", "dynamic": true})", "not dynamic"}}) {
    const auto other = Quantization::ParseConfig(
        Compressed(kWeights, kToken, fmt::format(R"("kv_cache_scheme": {}, )", json)), "", "m/config.json");
    ASSERT_TRUE(other.has_value()) << other.error();
    EXPECT_FALSE(other->kv_cache().has_value());
    EXPECT_THAT(other->notices(), ElementsAre(AllOf(HasSubstr("kv_cache_scheme: found"), HasSubstr(words))));
  }
  EXPECT_THAT(ConfigError(Compressed(kWeights, kToken, R"("kv_cache_scheme": 3, )")), HasSubstr("kv_cache_scheme: found 3"));
}

TEST(CompressedTensors, OtherFormsAreNamed) {
  EXPECT_THAT(ConfigError(Compressed(R"({"num_bits": 4})", kToken)),
              HasSubstr("group_0.weights: num_bits: found 4, expected 8"));
  EXPECT_THAT(ConfigError(Compressed(R"({"num_bits": 8, "type": "float"})", kToken)),
              HasSubstr("weights: type: found \"float\""));
  EXPECT_THAT(ConfigError(Compressed(R"({"strategy": "group"})", kToken)),
              HasSubstr("weights: strategy: found \"group\", expected \"channel\""));
  EXPECT_THAT(ConfigError(Compressed(kWeights, R"({"dynamic": true, "strategy": "tensor"})")),
              HasSubstr("input_activations: strategy: found \"tensor\", expected \"token\""));
  EXPECT_THAT(ConfigError(Compressed(kWeights, R"({"dynamic": true, "symmetric": false})")),
              HasSubstr("input_activations: symmetric: found false"));
  EXPECT_THAT(ConfigError(Compressed(kWeights, kToken, R"("format": "pack-quantized", )")),
              HasSubstr("in the format \"pack-quantized\", which is not supported"));
  EXPECT_THAT(ConfigError(Compressed(kWeights, kToken, R"("transform_config": {"a": 1}, )")),
              HasSubstr("transform_config: found"));
  EXPECT_THAT(ConfigError(R"({"quantization_config": {"quant_method": "compressed-tensors"}})"),
              HasSubstr("config_groups: found nothing"));
  EXPECT_THAT(ConfigError(R"({"quantization_config": 3})"), HasSubstr("expected an object"));
}

TEST(OtherFormats, AreRefusedByNameAndSayWhatIsRead) {
  for (const char* method : {"gptq", "awq", "fp8", "bitsandbytes", "mxfp4"}) {
    EXPECT_THAT(ConfigError(fmt::format(
                    R"({{"quantization_config": {{"quant_method": "{}", "bits": 4}}}})", method)),
                AllOf(HasSubstr(fmt::format("found the format \"{}\" with 4 bits", method)),
                      HasSubstr("Ascend"), HasSubstr("compressed-tensors"), HasSubstr("gptq and awq with 4 bits"),
                      HasSubstr("and fp8 are read")));
  }
  EXPECT_THAT(ConfigError(R"({"quantization_config": {"quant_method": null, "bits": 4}})"),
              HasSubstr("quantization_config: quant_method: found null, expected a format: "));
  EXPECT_EQ(ConfigError(R"({"quantization_config": null})"), "no error");
  EXPECT_EQ(ConfigError("{}"), "no error");
}

// Some exporters put the description into config.json.
TEST(QuantDescription, InsideTheConfiguration) {
  for (const char* method : {"", R"("quant_method": "ascend", )"}) {
    const auto q = Quantization::ParseConfig(
        fmt::format(R"({{"quantization_config": {{{}"model_quant_type": "W8A8", "kv_cache_type": "C8",
                    "a.weight": "W8A8", "a.deq_scale": "W8A8", "b.weight": "FLOAT"}}}})", method),
        "", "m/config.json");
    ASSERT_TRUE(q) << q.error();
    EXPECT_EQ(q->method(), QuantMethod::kAscend);
    EXPECT_EQ(q->path(), "m/config.json: quantization_config");
    EXPECT_EQ(*q->SchemeOf("a", "I8"), LinearScheme::kStatic);
    EXPECT_EQ(*q->SchemeOf("b", "BF16"), LinearScheme::kFloat);
    EXPECT_EQ(q->kv_cache(), DType::kI8);
    EXPECT_THAT(q->SchemeOf("c", "I8").error().message(),
                HasSubstr("m/config.json: quantization_config: has no entry for tensor \"c.weight\""));
  }
  EXPECT_THAT(ConfigError(R"({"quantization_config": {"a.weight": "W8A8", "b.weight": 3}})"),
              HasSubstr("quantization_config: b.weight: found 3"));
  EXPECT_THAT(
      ConfigError(R"({"quantization_config": {"group_size": 0, "model_quant_type": "W8A8"}})"),
      AllOf(HasSubstr("found \"group_size\", \"model_quant_type\" and no quant_method"),
            HasSubstr("quant_model_description.json")));
  EXPECT_THAT(ConfigError(R"({"quantization_config": {}})"),
              HasSubstr("found an empty object and no quant_method"));
  EXPECT_THAT(ConfigError(R"({"quantization_config": {"quant_method": "ascend"}})"),
              HasSubstr("found the format \"ascend\""));
}

class DetectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / fmt::format("tiercel_quantization_{}", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }
  Expected<Quantization> Detect(const std::string& flag, const std::string& config = "{}") {
    return DetectQuantization(folder_, config, "", flag);
  }
  std::string Error(const std::string& flag, const std::string& config = "{}") {
    const auto found = Detect(flag, config);
    return found.has_value() ? "no error" : found.error().message();
  }

  fs::path folder_;
};

TEST_F(DetectTest, TheDescriptionIsFoundByItsName) {
  EXPECT_EQ(Detect("")->method(), QuantMethod::kNone);
  Write("quant_model_description_w8a8.json", R"({"a.weight": "W8A8"})");
  EXPECT_EQ(Detect("")->method(), QuantMethod::kAscend);  // old versions' name
  Write("quant_model_description_w8a8_mix.json", R"({"a.weight": "W8A8_MIX"})");
  EXPECT_THAT(Error(""), HasSubstr("found 2 descriptions"));
  Write("quant_model_description.json", R"({"a.weight": "W8A8_DYNAMIC"})");
  EXPECT_EQ(*Detect("ascend")->SchemeOf("a", "I8"), LinearScheme::kDynamic);
}

TEST_F(DetectTest, FlagsWithoutTheirFiles) {
  Write("config.json", "{}");
  EXPECT_THAT(Error("ascend"), AllOf(HasSubstr("ModelSlim Quantization Config Not Found"),
                                     HasSubstr("Found JSON files in model directory: config.json")));
  EXPECT_THAT(Error("compressed-tensors"), HasSubstr("found no quantization_config"));
  EXPECT_THAT(Error("gguf"), HasSubstr("holds other weights"));
  EXPECT_THAT(Error("awq"), HasSubstr("holds other weights"));
  EXPECT_THAT(Error("fp8"), HasSubstr("holds other weights"));
  EXPECT_THAT(Error("modelopt"), AllOf(HasSubstr("modelopt is not supported"), HasSubstr("ascend")));
  for (const char* flag : {"int8", "int4", "none"}) EXPECT_EQ(Error(flag), "no error");
}

TEST_F(DetectTest, ADescriptionInTheConfigurationIsEnough) {
  const std::string config = R"({"quantization_config": {"a.weight": "W8A8_DYNAMIC"}})";
  EXPECT_EQ(Detect("", config)->method(), QuantMethod::kAscend);
  EXPECT_EQ(Detect("ascend", config)->method(), QuantMethod::kAscend);
  EXPECT_THAT(Error("int8", config), HasSubstr("already quantized (ascend)"));
  EXPECT_THAT(Error("compressed-tensors", config),
              HasSubstr("found a description of the Ascend quantizer"));
  EXPECT_THAT(Error("ascend", Compressed(kWeights, kToken)), HasSubstr("Config Not Found"));
}

TEST_F(DetectTest, FloatModelsOnlyAreQuantizedWhileLoading) {
  EXPECT_THAT(Error("int8", Compressed(kWeights, kToken)),
              HasSubstr("already quantized (compressed-tensors)"));
  EXPECT_THAT(Error("none", Compressed(kWeights, kToken)), HasSubstr("are not made BF16"));
  Write("quant_model_description.json", R"({"a.weight": "W8A8"})");
  EXPECT_THAT(Error("int8"), HasSubstr("already quantized (ascend)"));
  EXPECT_THAT(Error("int4"), HasSubstr("already quantized (ascend)"));
  EXPECT_THAT(Error("none"), HasSubstr("are not made BF16"));
  Write("quant_model_description.json", R"({"a.weight": "W4A8_DYNAMIC", "b.weight": "FLOAT"})");
  EXPECT_EQ(Detect("none")->method(), QuantMethod::kAscend);
  EXPECT_THAT(Error("int4"), HasSubstr("already quantized (ascend)"));
}

TEST_F(DetectTest, TheDescriptionWinsWithoutAFlagAndLosesToOne) {
  Write("quant_model_description.json", R"({"a.weight": "W8A8"})");
  const std::string config = Compressed(kWeights, kToken);
  EXPECT_EQ(Detect("", config)->method(), QuantMethod::kAscend);
  EXPECT_EQ(Detect("compressed-tensors", config)->method(), QuantMethod::kCompressedTensors);
}

}  // namespace
}  // namespace tiercel::checkpoint
