#include "checkpoint/fp8_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/fp8_config.h"
#include "checkpoint/memory_checkpoint_test_util.h"

namespace tiercel::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kN = 200, kK = 300;  // no whole blocks
const std::string kStem = "model.layers.0.mlp.up_proj", kName = kStem + ".weight";

// By the definition.
double E4M3(int code) {
  const int e = code >> 3 & 15, m = code & 7;
  const double value = e > 0 ? std::ldexp(1 + m / 8.0, e - 7) : std::ldexp(m / 8.0, -6);
  return code & 0x80 ? -value : value;
}

std::vector<uint8_t> Codes() {
  std::mt19937 random(1);
  std::vector<uint8_t> codes(kN * kK);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % 127 + random() % 2 * 128);
  return codes;
}

std::vector<float> Scales(int64_t count) {
  std::vector<float> scales;
  for (int64_t i = 0; i < count; ++i) scales.push_back(0.001f * static_cast<float>(i + 1));
  return scales;
}

// With `count` scales of that shape under that name.
std::unique_ptr<MemoryCheckpoint> Stored(const std::string& end, std::vector<int64_t> shape, int64_t count) {
  auto stored = std::make_unique<MemoryCheckpoint>();
  stored->Put(kName, "F8_E4M3", {kN, kK}, Codes());
  stored->Put(kStem + end, "F32", std::move(shape), Scales(count));
  stored->Put(kStem + ".input_scale", "F32", {1}, std::vector{1.0f});
  stored->Put("model.norm.weight", "F32", {1}, std::vector{1.0f});
  return stored;
}

struct Case {
  std::string end;
  std::vector<int64_t> shape;
  int64_t count;
  int64_t (*scale)(int64_t row, int64_t i);  // which one
};

const Case kCases[] = {
    {".weight_scale", {}, 1, [](int64_t, int64_t) { return int64_t{0}; }},
    {".weight_scale", {1}, 1, [](int64_t, int64_t) { return int64_t{0}; }},
    {".weight_scale", {kN, 1}, kN, [](int64_t row, int64_t) { return row; }},
    {".weight_scale", {kN}, kN, [](int64_t row, int64_t) { return row; }},
    {".weight_scale_inv", {2, 3}, 6, [](int64_t row, int64_t i) { return row / 128 * 3 + i / 128; }},
    {".weight_scale", {2, 3}, 6, [](int64_t row, int64_t i) { return row / 128 * 3 + i / 128; }},
};

TEST(Fp8Checkpoint, WeightsAreCodesTimesScales) {
  const std::vector<uint8_t> codes = Codes();
  for (const Case& c : kCases) {
    const auto checkpoint = OpenFp8(Stored(c.end, c.shape, c.count));
    ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error();
    EXPECT_THAT((*checkpoint)->Names(), ElementsAre(kName, "model.norm.weight"));
    EXPECT_FALSE((*checkpoint)->Find(kStem + c.end).has_value());
    EXPECT_EQ((*checkpoint)->BlockFormatOf(kName), BlockFormat::kF8);
    const std::vector<float> scales = Scales(c.count);
    std::vector<float> row(kK);
    std::vector<BF16> rounded(kK);
    BlockRow blocks;
    for (const int64_t r : {int64_t{0}, int64_t{127}, int64_t{128}, kN - 1}) {
      ASSERT_TRUE((*checkpoint)->ReadRows(kName, r, r + 1, row.data()).ok());
      ASSERT_TRUE((*checkpoint)->ReadRows(kName, r, r + 1, rounded.data()).ok());
      ASSERT_TRUE((*checkpoint)->ReadBlocks(kName, r, &blocks).ok());
      for (int64_t i = 0; i < kK; ++i) {
        const float scale = scales[static_cast<size_t>(c.scale(r, i))];
        const float exact = static_cast<float>(E4M3(codes[static_cast<size_t>(r * kK + i)])) * scale;
        ASSERT_EQ(row[static_cast<size_t>(i)], exact);
        ASSERT_EQ(rounded[static_cast<size_t>(i)], ToBF16(exact));
        ASSERT_EQ(blocks.codes[static_cast<size_t>(i)], codes[static_cast<size_t>(r * kK + i)]);
        ASSERT_EQ(blocks.float_scale[static_cast<size_t>(i / 128)], scale);
      }
    }
  }
}

TEST(Fp8Checkpoint, WhatDoesNotFitIsNamed) {
  const auto error = [](auto change) -> std::string {
    auto stored = Stored(".weight_scale_inv", {2, 3}, 6);
    change(*stored);
    const auto checkpoint = OpenFp8(std::move(stored));
    if (!checkpoint) return checkpoint.error().message();
    BlockRow row;
    const Status status = (*checkpoint)->ReadBlocks(kName, 7, &row);
    std::vector<float> floats(kK);
    EXPECT_EQ((*checkpoint)->ReadRows(kName, 7, 8, floats.data()).ok(), status.ok());
    return status.message();
  };
  EXPECT_EQ(error([](auto&) {}), "");
  for (const uint8_t nan : {0x7f, 0xff}) {
    EXPECT_THAT(error([&](auto& c) { c.tensors[kName].bytes[7 * kK + 9] = nan; }),
                AllOf(HasSubstr(kName), HasSubstr("row 7: found a NaN at input 9")));
  }
  EXPECT_THAT(error([](auto& c) { c.tensors.erase(kStem + ".weight_scale_inv"); }),
              HasSubstr("up_proj.weight_scale: found nothing, expected a scale, 200 of rows, or [2, 3] of blocks"));
  EXPECT_THAT(error([](auto& c) { c.Put(kStem + ".weight_scale_inv", "F32", {3, 2}, Scales(6)); }),
              HasSubstr("found [3, 2]"));
  EXPECT_THAT(error([](auto& c) { c.Put(kStem + ".weight_scale_inv", "I32", {2, 3}, Scales(6)); }),
              HasSubstr("found I32, expected floats"));
  for (const float bad : {-1.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    EXPECT_THAT(error([&](auto& c) {
                  c.Put(kStem + ".weight_scale_inv", "F32", {2, 3}, std::vector<float>{1, 1, 1, 1, bad, 1});
                }),
                HasSubstr("weight_scale_inv: value 4 is"));
  }
  EXPECT_THAT(error([](auto& c) { c.tensors[kName].info.type = "I8"; }), HasSubstr("hold no linear in FP8"));
}

Expected<bool> IsFp8(const std::string& quantization) {
  return IsFp8Config(R"({"quantization_config": )" + quantization + "}", "", "config.json");
}

TEST(Fp8Config, WhatSaysFp8) {
  const char* const kYes[] = {
      R"({"quant_method": "fp8"})",
      R"({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]})",
      R"({"quant_method": "compressed-tensors", "format": "float-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}})",
  };
  for (const char* json : kYes) {
    const auto is = IsFp8(json);
    ASSERT_TRUE(is.has_value()) << is.error();
    EXPECT_TRUE(*is) << json;
  }
  for (const char* json : {"null", R"({"quant_method": "gptq"})",
                           R"({"quant_method": "compressed-tensors", "format": "int-quantized"})"}) {
    EXPECT_FALSE(IsFp8(json).value_or(true)) << json;
  }
  const std::pair<const char*, const char*> kNo[] = {
      {"3", "an object"},
      {R"({"quant_method": "fp8", "weight_block_size": [64, 128]})", "weight_block_size: found [64,128]"},
      {R"({"quant_method": "fp8", "fmt": "e5m2"})", "fmt: found \"e5m2\""},
      {R"({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {}})", "config_groups"},
      {R"({"quant_method": "compressed-tensors", "format": "float-quantized",
           "config_groups": {"g": {"weights": {"num_bits": 4, "type": "float"}}}})", "num_bits: found 4"},
      {R"({"quant_method": "compressed-tensors", "format": "float-quantized",
           "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}}})", "type: found \"int\""},
      {R"({"quant_method": "compressed-tensors", "format": "float-quantized",
           "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float", "block_structure": [1, 32]}}}})",
       "block_structure: found [1,32]"},
  };
  for (const auto& [json, words] : kNo) {
    const auto is = IsFp8(json);
    ASSERT_FALSE(is.has_value()) << json;
    EXPECT_THAT(is.error().message(), AllOf(HasSubstr("config.json: quantization_config"), HasSubstr(words)));
  }
}

}  // namespace
}  // namespace tiercel::checkpoint
