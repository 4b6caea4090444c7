// What belongs to a quantized linear, in every format: scales that are none are refused by name.
#include "checkpoint/linear_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>

#include "checkpoint/convert.h"

namespace tiercel::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kOutputs = 3, kInputs = 4;
const std::string kLinear = "model.layers.0.mlp.up_proj";

// Tensors held in memory.
class FakeCheckpoint final : public Checkpoint {
 public:
  explicit FakeCheckpoint(Quantization quantization) : quantization_(std::move(quantization)) {}

  template <typename T>
  void Put(const std::string& end, const std::string& type, const std::vector<T>& values,
           std::vector<int64_t> shape = {}) {
    Tensor& t = tensors_[kLinear + end];
    t.info = {shape.empty() ? std::vector<int64_t>{std::ssize(values)} : shape, type};
    t.bytes.resize(values.size() * sizeof(T));
    std::memcpy(t.bytes.data(), values.data(), t.bytes.size());
  }

  const ModelConfig& config() const override { return config_; }
  const GenerationConfig& generation_config() const override { return generation_; }
  const Quantization& quantization() const override { return quantization_; }
  std::optional<TensorInfo> Find(const std::string& name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? std::nullopt : std::optional(it->second.info);
  }
  std::vector<std::string> Names() const override { return {}; }
  int64_t FileBytes() const override { return 0; }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    return Read(name, begin, end, out);
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    return Read(name, begin, end, out);
  }
  const BF16* MappedBF16(const std::string&) const override { return nullptr; }
  const uint8_t* MappedBytes(const std::string& name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : it->second.bytes.data();
  }
  void WillNeed(const std::string&) const override {}
  void DontNeed(const std::string&) const override {}

 private:
  struct Tensor {
    TensorInfo info;
    std::vector<uint8_t> bytes;
  };

  template <typename T>
  Status Read(const std::string& name, int64_t begin, int64_t end, T* out) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return NotFound("{}: missing", name);
    const std::string& type = it->second.info.type;
    const DType dtype = type == "F32"   ? DType::kF32
                        : type == "F16" ? DType::kF16
                                        : DType::kBF16;
    Convert(it->second.bytes.data() + begin * static_cast<int64_t>(SizeOf(dtype)), dtype, end - begin,
            out);
    return OkStatus();
  }

  ModelConfig config_;
  GenerationConfig generation_;
  Quantization quantization_;
  std::map<std::string, Tensor> tensors_;
};

FakeCheckpoint Ascend(const std::string& type) {
  FakeCheckpoint c(*Quantization::ParseDescription(
      fmt::format(R"({{"{}.weight": "{}"}})", kLinear, type), "quant_model_description.json"));
  c.Put<int8_t>(".weight", "I8", std::vector<int8_t>(kOutputs * kInputs), {kOutputs, kInputs});
  c.Put<float>(".weight_scale", "F32", {0.01f, 0, 0.02f}, {kOutputs, 1});
  c.Put<float>(".weight_offset", "F32", {0, 0, 0}, {kOutputs, 1});
  c.Put<float>(".input_scale", "F32", {0.05f});
  c.Put<float>(".input_offset", "F32", {-6});
  c.Put<float>(".deq_scale", "F32", {1e-4f, 2e-4f, 0});
  c.Put<int32_t>(".quant_bias", "I32", {5, -6, 7});
  return c;
}

FakeCheckpoint Compressed(const std::string& input) {
  FakeCheckpoint c(*Quantization::ParseConfig(
      R"({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"g": {
          "weights": {"num_bits": 8})" + input + "}}}}", "", "config.json"));
  c.Put<int8_t>(".weight", "I8", std::vector<int8_t>(kOutputs * kInputs), {kOutputs, kInputs});
  c.Put<float>(".weight_scale", "F32", {0.01f, 0.03f, 0.02f}, {kOutputs, 1});
  c.Put<float>(".input_scale", "F32", {0.05f});
  return c;
}

const char* const kDynamicInput = R"(, "input_activations": {"num_bits": 8, "dynamic": true})";
const char* const kStaticInput = R"(, "input_activations": {"num_bits": 8, "dynamic": false})";

std::string Error(const FakeCheckpoint& checkpoint, LinearOptions options = {}) {
  const auto t = ReadLinearTensors(checkpoint, kLinear, kOutputs, kInputs, false, options);
  return t ? "no error" : t.error().message();
}

// Every format, and which of its tensors are scales of the input (one) or of the outputs.
struct Format {
  FakeCheckpoint checkpoint;
  std::string input_scale, output_scale;
  LinearOptions options;
};
std::vector<Format> Formats() {
  std::vector<Format> formats;
  formats.push_back({Ascend("W8A8"), ".input_scale", ".deq_scale", {}});
  formats.push_back({Ascend("W8A8_MIX"), ".input_scale", ".deq_scale", {.mix_static = true}});
  formats.push_back({Ascend("W8A8_MIX"), "", ".weight_scale", {}});
  formats.push_back({Ascend("W8A8_DYNAMIC"), "", ".weight_scale", {}});
  formats.push_back({Ascend("W8A16"), "", ".weight_scale", {}});
  formats.push_back({Compressed(kStaticInput), ".input_scale", ".weight_scale", {}});
  formats.push_back({Compressed(kDynamicInput), "", ".weight_scale", {}});
  formats.push_back({Compressed(""), "", ".weight_scale", {}});
  return formats;
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// The smallest float, the largest subnormal one, what is ordinary itself but has a square or a
// reciprocal that is not, and all that is no number above 0.
const float kNoScales[] = {1.4e-45f, 1.17e-38f, 1e-30f, 1e30f,     3e38f,
                           -1e-3f,   -0.5f,     -kInfinity, kInfinity, std::nanf("")};

TEST(LinearTensors, GoodScalesLoad) {
  for (const Format& f : Formats()) EXPECT_EQ(Error(f.checkpoint, f.options), "no error");
}

TEST(LinearTensors, InputScalesAreChecked) {
  for (Format& f : Formats()) {
    if (f.input_scale.empty()) continue;
    for (const float bad : kNoScales) {
      f.checkpoint.Put<float>(f.input_scale, "F32", {bad});
      EXPECT_THAT(Error(f.checkpoint, f.options),
                  AllOf(HasSubstr(kLinear + f.input_scale), HasSubstr("expected a"))) << bad;
    }
    for (const float zero : {0.0f, -0.0f}) {
      f.checkpoint.Put<float>(f.input_scale, "F32", {zero});
      EXPECT_THAT(Error(f.checkpoint, f.options), HasSubstr("expected a scale from 1e-18 to 1e+18"));
    }
    // Subnormal as FP16, an ordinary number as it is used.
    f.checkpoint.Put<uint16_t>(f.input_scale, "F16", {1});
    EXPECT_EQ(Error(f.checkpoint, f.options), "no error");
    f.checkpoint.Put<uint16_t>(f.input_scale, "BF16", {1});  // 2⁻¹³³: subnormal in both
    EXPECT_THAT(Error(f.checkpoint, f.options), HasSubstr("expected a scale"));
  }
}

TEST(LinearTensors, OutputScalesAreChecked) {
  for (Format& f : Formats()) {
    const std::string name = kLinear + f.output_scale;
    for (const float bad : kNoScales) {
      f.checkpoint.Put<float>(f.output_scale, "F32", {0.01f, bad, 0.01f});
      EXPECT_THAT(Error(f.checkpoint, f.options),
                  AllOf(HasSubstr(name + ": value 1 is"), HasSubstr("expected a"))) << bad;
    }
    // A column may be zero; a tensor that is zero was never filled.
    f.checkpoint.Put<float>(f.output_scale, "F32", {0.01f, 0, 0});
    EXPECT_EQ(Error(f.checkpoint, f.options), "no error");
    f.checkpoint.Put<float>(f.output_scale, "F32", {0, 0, 0});
    EXPECT_THAT(Error(f.checkpoint, f.options), HasSubstr(name + ": every scale is 0"));
  }
}

TEST(LinearTensors, DeqScalesAsBitsAreChecked) {
  FakeCheckpoint c = Ascend("W8A8");
  const auto bits = [](float value) {
    return int64_t{std::bit_cast<int32_t>(value)} & 0xffffffff;
  };
  c.Put<int64_t>(".deq_scale", "I64", {bits(1e-4f), bits(0), bits(6e-5f)});
  EXPECT_EQ(Error(c), "no error");
  for (const float bad : kNoScales) {
    c.Put<int64_t>(".deq_scale", "I64", {bits(1e-4f), bits(1e-4f), bits(bad)});
    EXPECT_THAT(Error(c), HasSubstr(kLinear + ".deq_scale: value 2 is")) << bad;
  }
  c.Put<int64_t>(".deq_scale", "I64", {0, 0, 0});
  EXPECT_THAT(Error(c), HasSubstr(".deq_scale: every scale is 0"));
}

TEST(LinearTensors, OffsetsOfSymmetricWeightsAreZero) {
  for (Format& f : Formats()) {
    const auto t = ReadLinearTensors(f.checkpoint, kLinear, kOutputs, kInputs, false, f.options);
    ASSERT_TRUE(t) << t.error();
    if (t->scheme == LinearScheme::kWeightOnly) continue;  // has offsets
    for (const char* end : {".weight_offset", ".weight_zero_point"}) {
      FakeCheckpoint c = f.checkpoint;
      c.Put<float>(end, "F32", {0, 0, 1});
      EXPECT_THAT(Error(c, f.options), AllOf(HasSubstr(kLinear + end), HasSubstr("expected 0")));
    }
  }
}

}  // namespace
}  // namespace tiercel::checkpoint
