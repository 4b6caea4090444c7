#include "checkpoint/int4_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/bf16.h"
#include "checkpoint/convert.h"
#include "checkpoint/memory_checkpoint_test_util.h"
#include "kernels/reference/block_weights.h"
#include "model/block_packing.h"

namespace tiercel::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kN = 24, kK = 256, kGroups = 2;
const std::string kStem = "model.layers.0.mlp.up_proj";

// Codes [n][k], zero points and scales [n][group] of one linear.
struct Codes {
  Codes() : code(kN, std::vector<int>(kK)), zero(kN, std::vector<int>(kGroups)), scale(kN, std::vector<float>(kGroups)) {
    std::mt19937 random(1);
    for (int64_t r = 0; r < kN; ++r) {
      for (int& c : code[r]) c = static_cast<int>(random() % 16);
      for (int& z : zero[r]) z = static_cast<int>(1 + random() % 15);
      for (float& s : scale[r]) s = static_cast<float>(1 + random() % 200) / 4096;  // exact in binary16
    }
  }
  float Weight(int64_t r, int64_t k, bool symmetric) const {
    return scale[r][k / 128] * static_cast<float>(code[r][k] - (symmetric ? 8 : zero[r][k / 128]));
  }
  std::vector<std::vector<int>> code, zero;
  std::vector<std::vector<float>> scale;
};

uint32_t Word(const std::vector<int>& eight) {
  uint32_t word = 0;
  for (int i = 0; i < 8; ++i) word |= static_cast<uint32_t>(eight[i]) << (4 * i);
  return word;
}

// As AutoGPTQ writes a linear: eight inputs of a column in a word, the zero points less one.
void PutGptq(const Codes& w, int less, checkpoint::MemoryCheckpoint* to) {
  std::vector<uint32_t> qweight, qzeros;
  std::vector<uint16_t> scales;
  for (int64_t k = 0; k < kK; k += 8) {
    for (int64_t r = 0; r < kN; ++r) qweight.push_back(Word({w.code[r].begin() + k, w.code[r].begin() + k + 8}));
  }
  for (int64_t g = 0; g < kGroups; ++g) {
    for (int64_t r = 0; r < kN; r += 8) {
      std::vector<int> eight;
      for (int64_t i = r; i < r + 8; ++i) eight.push_back(w.zero[i][g] - less);
      qzeros.push_back(Word(eight));
    }
    for (int64_t r = 0; r < kN; ++r) scales.push_back(ToHalf(w.scale[r][g]));
  }
  to->Put(kStem + ".qweight", "I32", {kK / 8, kN}, qweight);
  to->Put(kStem + ".qzeros", "I32", {kGroups, kN / 8}, qzeros);
  to->Put(kStem + ".scales", "F16", {kGroups, kN}, scales);
  to->Put(kStem + ".g_idx", "I32", {kK}, std::vector<int32_t>(kK));
}

// As AutoAWQ does: eight columns of an input in a word, in the order 0 2 4 6 1 3 5 7.
void PutAwq(const Codes& w, checkpoint::MemoryCheckpoint* to) {
  const std::vector<int> order = {0, 2, 4, 6, 1, 3, 5, 7};
  std::vector<uint32_t> qweight, qzeros;
  std::vector<uint16_t> scales;
  for (int64_t k = 0; k < kK; ++k) {
    for (int64_t r = 0; r < kN; r += 8) {
      std::vector<int> eight;
      for (int i : order) eight.push_back(w.code[r + i][k]);
      qweight.push_back(Word(eight));
    }
  }
  for (int64_t g = 0; g < kGroups; ++g) {
    for (int64_t r = 0; r < kN; r += 8) {
      std::vector<int> eight;
      for (int i : order) eight.push_back(w.zero[r + i][g]);
      qzeros.push_back(Word(eight));
    }
    for (int64_t r = 0; r < kN; ++r) scales.push_back(ToHalf(w.scale[r][g]));
  }
  to->Put(kStem + ".qweight", "I32", {kK, kN / 8}, qweight);
  to->Put(kStem + ".qzeros", "I32", {kGroups, kN / 8}, qzeros);
  to->Put(kStem + ".scales", "F16", {kGroups, kN}, scales);
}

// As compressed-tensors does: eight inputs of a row in a word; zero points eight rows in a word.
void PutCompressed(const Codes& w, bool symmetric, checkpoint::MemoryCheckpoint* to) {
  std::vector<uint32_t> packed, zeros;
  std::vector<BF16> scales;
  for (int64_t r = 0; r < kN; ++r) {
    for (int64_t k = 0; k < kK; k += 8) packed.push_back(Word({w.code[r].begin() + k, w.code[r].begin() + k + 8}));
    for (int64_t g = 0; g < kGroups; ++g) scales.push_back(ToBF16(w.scale[r][g]));
  }
  for (int64_t r = 0; r < kN; r += 8) {
    for (int64_t g = 0; g < kGroups; ++g) {
      std::vector<int> eight;
      for (int64_t i = r; i < r + 8; ++i) eight.push_back(w.zero[i][g]);
      zeros.push_back(Word(eight));
    }
  }
  to->Put(kStem + ".weight_packed", "I32", {kN, kK / 8}, packed);
  to->Put(kStem + ".weight_scale", "BF16", {kN, kGroups}, scales);
  if (!symmetric) to->Put(kStem + ".weight_zero_point", "I32", {kN / 8, kGroups}, zeros);
  to->Put(kStem + ".weight_shape", "I64", {2}, std::vector<int64_t>{kN, kK});
}

void ExpectWeights(std::unique_ptr<checkpoint::MemoryCheckpoint> stored, const checkpoint::Int4Config& config, bool bf16_scales = false) {
  const Codes w;
  stored->Put("model.norm.weight", "BF16", {4}, std::vector<BF16>(4));
  auto checkpoint = checkpoint::OpenInt4(std::move(stored), config);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error();
  const std::string name = kStem + ".weight";
  EXPECT_THAT((*checkpoint)->Names(), ElementsAre(name, "model.norm.weight"));
  EXPECT_EQ((*checkpoint)->Find(name)->shape, (std::vector<int64_t>{kN, kK}));
  EXPECT_EQ((*checkpoint)->Find(kStem + ".qweight"), std::nullopt);
  EXPECT_EQ((*checkpoint)->BlockFormatOf(name), config.symmetric ? BlockFormat::kI4 : BlockFormat::kU4);
  std::vector<float> rows(kN * kK);
  ASSERT_TRUE((*checkpoint)->ReadRows(name, 0, kN, rows.data()).ok());
  for (int64_t r = 0; r < kN; ++r) {
    checkpoint::BlockRow blocks;
    ASSERT_TRUE((*checkpoint)->ReadBlocks(name, r, &blocks).ok());
    for (int64_t k = 0; k < kK; ++k) {
      const float exact = w.Weight(r, k, config.symmetric), tolerance = bf16_scales ? std::abs(exact) / 256 : 0;
      ASSERT_NEAR(rows[r * kK + k], exact, tolerance) << r << " " << k;
      const int zero = config.symmetric ? 8 : blocks.sub_min[k / 128];
      ASSERT_NEAR(HalfToFloat(blocks.scale[k / 128]) * static_cast<float>(blocks.codes[k] - zero), exact, tolerance);
    }
  }
  EXPECT_FALSE((*checkpoint)->ReadRows(name, 0, kN + 1, rows.data()).ok());
}

Expected<std::optional<checkpoint::Int4Config>> Parse(const std::string& quantization) {
  return checkpoint::ParseInt4Config("{\"quantization_config\": " + quantization + "}", "", "config.json");
}

TEST(Int4Checkpoint, Gptq) {
  const auto config = Parse(R"({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false, "sym": true})");
  ASSERT_TRUE(config.has_value() && config->has_value());
  auto stored = std::make_unique<checkpoint::MemoryCheckpoint>();
  PutGptq(Codes(), 1, stored.get());
  ExpectWeights(std::move(stored), **config);
  const auto second = Parse(R"({"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"})");
  ASSERT_TRUE(second.has_value() && second->has_value());
  stored = std::make_unique<checkpoint::MemoryCheckpoint>();
  PutGptq(Codes(), 0, stored.get());
  ExpectWeights(std::move(stored), **second);
}

TEST(Int4Checkpoint, Awq) {
  const auto config = Parse(R"({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": true})");
  ASSERT_TRUE(config.has_value() && config->has_value());
  auto stored = std::make_unique<checkpoint::MemoryCheckpoint>();
  PutAwq(Codes(), stored.get());
  ExpectWeights(std::move(stored), **config);
}

TEST(Int4Checkpoint, CompressedTensors) {
  for (const bool symmetric : {true, false}) {
    const auto config = Parse(std::string(R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": null, "weights": {"num_bits": 4,
        "type": "int", "strategy": "group", "group_size": 128, "symmetric": )") + (symmetric ? "true" : "false") + "}}}}");
    ASSERT_TRUE(config.has_value() && config->has_value());
    auto stored = std::make_unique<checkpoint::MemoryCheckpoint>();
    PutCompressed(Codes(), symmetric, stored.get());
    ExpectWeights(std::move(stored), **config, /*bf16_scales=*/true);
  }
}

// Groups of every size, zero points that are all 8, and inputs in another order: each as the formula has it, and in the
// format that it fits; the strips that are packed of it as well.
TEST(Int4Checkpoint, SmallGroupsAndOtherOrders) {
  constexpr int64_t kRows = 16;
  enum class Inputs { kPlain, kReordered, kUneven };
  struct Case {
    int64_t group;
    bool zeros_are_8;
    Inputs inputs;
    BlockFormat format;
  };
  for (const Case& c :
       {Case{32, true, Inputs::kPlain, BlockFormat::kQ4_0}, Case{64, true, Inputs::kPlain, BlockFormat::kI4_64},
        Case{128, true, Inputs::kPlain, BlockFormat::kI4}, Case{128, false, Inputs::kPlain, BlockFormat::kU4},
        Case{64, false, Inputs::kPlain, BlockFormat::kU4_64}, Case{32, false, Inputs::kPlain, BlockFormat::kU4_32},
        Case{128, true, Inputs::kReordered, BlockFormat::kI4}, Case{64, false, Inputs::kReordered, BlockFormat::kU4_64},
        Case{32, false, Inputs::kReordered, BlockFormat::kU4_32}, Case{64, true, Inputs::kUneven, BlockFormat::kNone}}) {
    SCOPED_TRACE(fmt::format("group {}, format {}", c.group, InfoOf(c.format).name));
    std::mt19937 random(2);
    const int64_t groups = kK / c.group;
    std::vector<std::vector<int>> code(kRows, std::vector<int>(kK)), zero(kRows, std::vector<int>(groups, 8));
    std::vector<std::vector<float>> scale(kRows, std::vector<float>(groups));
    for (int64_t r = 0; r < kRows; ++r) {
      for (int& x : code[r]) x = static_cast<int>(random() % 16);
      // Eleven bits: with a zero point the minimum would need more than binary16 has.
      for (float& x : scale[r]) x = static_cast<float>(1025 + 2 * (random() % 511)) / 65536;
      for (int& x : zero[r]) x = c.zeros_are_8 ? 8 : static_cast<int>(1 + random() % 16);
    }
    std::vector<int32_t> group_of(kK);
    for (int64_t i = 0; i < kK; ++i) group_of[i] = static_cast<int32_t>(i / c.group);
    if (c.inputs != Inputs::kPlain) std::shuffle(group_of.begin(), group_of.end(), random);
    if (c.inputs == Inputs::kUneven) *std::find(group_of.begin(), group_of.end(), 0) = 1;
    auto stored = std::make_unique<checkpoint::MemoryCheckpoint>();
    std::vector<uint32_t> qweight, qzeros;
    std::vector<uint16_t> scales;
    for (int64_t k = 0; k < kK; k += 8) {
      for (int64_t r = 0; r < kRows; ++r) qweight.push_back(Word({code[r].begin() + k, code[r].begin() + k + 8}));
    }
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t first = 0; first < kRows; first += 8) {
        std::vector<int> eight;
        for (int64_t r = first; r < first + 8; ++r) eight.push_back(zero[r][g] - 1);
        qzeros.push_back(Word(eight));
      }
      for (int64_t r = 0; r < kRows; ++r) scales.push_back(ToHalf(scale[r][g]));
    }
    stored->Put(kStem + ".qweight", "I32", {kK / 8, kRows}, qweight);
    stored->Put(kStem + ".qzeros", "I32", {groups, kRows / 8}, qzeros);
    stored->Put(kStem + ".scales", "F16", {groups, kRows}, scales);
    stored->Put(kStem + ".g_idx", "I32", {kK}, group_of);
    const auto config = Parse(fmt::format(R"({{"quant_method": "gptq", "bits": 4, "group_size": {}, "desc_act": {}}})",
                                          c.group, c.inputs != Inputs::kPlain));
    ASSERT_TRUE(config.has_value() && config->has_value()) << config.error();
    const auto checkpoint = checkpoint::OpenInt4(std::move(stored), **config);
    ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error();
    const std::string name = kStem + ".weight";
    ASSERT_EQ((*checkpoint)->BlockFormatOf(name), c.format);
    const auto weight = [&](int64_t r, int64_t k) {
      const int64_t g = group_of[k];
      return scale[r][g] * static_cast<float>(code[r][k] - zero[r][g]);
    };
    std::vector<float> floats(kRows * kK);
    ASSERT_TRUE((*checkpoint)->ReadRows(name, 0, kRows, floats.data()).ok());
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t k = 0; k < kK; ++k) ASSERT_EQ(floats[r * kK + k], weight(r, k)) << r << " " << k;
    }
    const std::span<const int32_t> order = (*checkpoint)->BlockOrderOf(name);
    ASSERT_EQ(order.size(), c.inputs == Inputs::kReordered ? kK : 0);
    if (c.format == BlockFormat::kNone) continue;
    std::vector<checkpoint::BlockRow> rows(kRows);
    StripRows strip = {};
    for (int64_t r = 0; r < kRows; ++r) {
      ASSERT_TRUE((*checkpoint)->ReadBlocks(name, r, &rows[r]).ok());
      strip[r] = &rows[r];
    }
    std::vector<uint8_t> packed(StripBytes(c.format, kK));
    PackStrip(c.format, strip, {0, kK}, packed.data());
    const kernels::reference::StripReader reader(c.format, packed.data());
    const BlockFormatInfo info = InfoOf(c.format);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t i = 0; i < kK; ++i) {
        const int64_t k = order.empty() ? i : order[i];
        const float w = reader.Scale(i / info.group, r) * static_cast<float>(reader.Code(i, r) - info.zero) -
                        reader.Min(i / info.group, r);
        ASSERT_EQ(w, weight(r, k)) << r << " " << k;
      }
    }
    // Beside the file's bytes a zero point takes a byte in the place of four bits.
    const size_t of_file = 4 * (qweight.size() + (c.zeros_are_8 ? 0 : 2 * qzeros.size())) + 2 * scales.size();
    EXPECT_EQ(packed.size(), of_file);
  }
}

TEST(Int4Config, WhatIsNotReadIsRefusedInOneLine) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"quant_method": "gptq", "bits": 8})", "bits: found 8, expected 4"},
      {R"({"quant_method": "gptq", "bits": 4, "group_size": 48})", "group_size: found 48, expected 32"},
      {R"({"quant_method": "awq", "bits": 4, "version": "gemv"})", "version: found \"gemv\", expected \"gemm\""},
      {R"({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}})", "config_groups"},
  };
  for (const auto& [json, words] : cases) {
    const auto config = Parse(json);
    ASSERT_FALSE(config.has_value()) << json;
    EXPECT_THAT(config.error().message(), AllOf(HasSubstr("config.json: quantization_config"), HasSubstr(words)));
    EXPECT_EQ(config.error().message().find('\n'), std::string::npos);
  }
  for (const char* other : {R"({"quant_method": "fp8"})", R"({"quant_method": "compressed-tensors"})", "{}"}) {
    const auto config = Parse(other);
    ASSERT_TRUE(config.has_value());
    EXPECT_FALSE(config->has_value());
  }
}

TEST(Int4Checkpoint, TensorsThatDoNotFitAreNamed) {
  checkpoint::Int4Config config{.layout = checkpoint::Int4Layout::kGptq, .symmetric = false, .stored_zero_less = 1};
  const auto error = [&](auto change) {
    auto stored = std::make_unique<checkpoint::MemoryCheckpoint>();
    PutGptq(Codes(), 1, stored.get());
    change(stored->tensors);
    const auto checkpoint = checkpoint::OpenInt4(std::move(stored), config);
    return checkpoint.has_value() ? "" : checkpoint.error().message();
  };
  EXPECT_THAT(error([](auto& t) { t.clear(); }), HasSubstr("no linear of the format gptq"));
  EXPECT_EQ(error([](auto& t) { t.erase(kStem + ".qzeros"); }), kStem + ".qzeros: found nothing [], expected I32 [2, 3]");
  EXPECT_EQ(error([](auto& t) { t.erase(kStem + ".scales"); }), kStem + ".scales: found nothing, expected floats [2, 24]");
  EXPECT_THAT(error([](auto& t) { t[kStem + ".scales"].info.shape = {24, 2}; }), HasSubstr("found F16 [24, 2]"));
  EXPECT_THAT(error([](auto& t) { t[kStem + ".qweight"].info.type = "F32"; }), HasSubstr("found F32 [32, 24]"));
  EXPECT_THAT(error([](auto& t) { t[kStem + ".qweight"].info.shape = {24}; }), HasSubstr("found 1 dimensions"));
  config.reordered = true;
  EXPECT_THAT(error([](auto& t) { t.erase(kStem + ".g_idx"); }), HasSubstr("g_idx: found nothing"));
  EXPECT_THAT(error([](auto& t) { t[kStem + ".g_idx"] = t[kStem + ".scales"]; }), HasSubstr("g_idx: found F16"));
  EXPECT_THAT(error([](auto& t) {
                t[kStem + ".g_idx"] = {{{kK}, "I32"}, std::vector<uint8_t>(4 * kK, 1)};
              }),
              HasSubstr("g_idx: value 0 is 16843009, expected a group from 0 to 1"));
}

}  // namespace
}  // namespace tiercel::model
