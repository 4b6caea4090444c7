// Linears of four bits as the Ascend quantizer stores them: each weight is what the format's formula says, and what does
// not fit is named in one line.
#include "checkpoint/ascend_int4_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/bf16.h"
#include "checkpoint/memory_checkpoint_test_util.h"

namespace tiercel::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kN = 24, kK = 512;
const std::string kStem = "model.layers.0.mlp.up_proj", kName = kStem + ".weight";

enum class Packing { kNone, kRows, kInputs };

struct Format {
  const char* type = "W4A8_DYNAMIC";
  Packing packing = Packing::kRows;
  int64_t groups = 2;
  bool two_levels = true;
  bool one_column = false;  // of scales, as old files have it
  bool offsets = false;     // that are not 0
  BlockFormat expected = BlockFormat::kI4;
};

// Codes [n][k], scales [n] and [n][groups], offsets [n][groups] of one linear.
struct Codes {
  explicit Codes(const Format& f) : code(kN * kK), row_scale(kN, 1.0f), scale(kN * f.groups), offset(kN * f.groups, 0) {
    std::mt19937 random(1);
    for (int& c : code) c = static_cast<int>(random() % 16) - 8;
    for (float& s : row_scale) s = f.two_levels ? std::ldexp(1.0f, -static_cast<int>(random() % 4)) : 1;
    for (float& s : scale) s = static_cast<float>(1 + random() % 200) / 4096;  // the product is exact in binary16
    for (int& o : offset) o = f.offsets ? static_cast<int>(random() % 16) - 8 : 0;
  }
  float Weight(const Format& f, int64_t r, int64_t i) const {
    const auto g = static_cast<size_t>(r * f.groups + i * f.groups / kK);
    return row_scale[static_cast<size_t>(r)] * scale[g] * static_cast<float>(code[static_cast<size_t>(r * kK + i)] - offset[g]);
  }
  std::vector<int> code;
  std::vector<float> row_scale, scale;
  std::vector<int> offset;
};

std::vector<int8_t> Packed(const Codes& w, Packing packing) {
  const auto at = [&](int64_t r, int64_t i) { return w.code[static_cast<size_t>(r * kK + i)]; };
  const auto pair = [](int low, int high) { return static_cast<int8_t>((low & 15) | (high & 15) << 4); };
  std::vector<int8_t> bytes;
  for (int64_t r = 0; r < kN; r += packing == Packing::kRows ? 2 : 1) {
    for (int64_t i = 0; i < kK; i += packing == Packing::kInputs ? 2 : 1) {
      bytes.push_back(packing == Packing::kRows     ? pair(at(r, i), at(r + 1, i))
                      : packing == Packing::kInputs ? pair(at(r, i), at(r, i + 1))
                                                    : static_cast<int8_t>(at(r, i)));
    }
  }
  return bytes;
}

std::unique_ptr<MemoryCheckpoint> Stored(const Format& f, int64_t group_size) {
  auto stored = std::make_unique<MemoryCheckpoint>();
  stored->model.hidden_size = kK;
  stored->model.intermediate_size = kN;
  stored->model.num_layers = 1;
  stored->described = *Quantization::ParseDescription(
      fmt::format(R"({{"version": "1.0.0", "group_size": {}, "{}": "{}", "model.norm.weight": "FLOAT"}})", group_size, kName, f.type),
      "quant_model_description.json");
  const Codes w(f);
  const int64_t rows = f.packing == Packing::kRows ? kN / 2 : kN, columns = f.packing == Packing::kInputs ? kK / 2 : kK;
  stored->Put(kName, "I8", {rows, columns}, Packed(w, f.packing));
  const std::vector<int64_t> shape = f.one_column ? std::vector<int64_t>{kN * f.groups, 1} : std::vector<int64_t>{kN, f.groups};
  const std::string level = f.two_levels ? "_second" : "";
  if (f.two_levels) {
    stored->Put(kStem + ".weight_scale", "F32", {kN, 1}, w.row_scale);
    stored->Put(kStem + ".weight_offset", "F32", {kN, 1}, std::vector<float>(kN));
  }
  stored->Put(kStem + ".weight_scale" + level, "F32", shape, w.scale);
  stored->Put(kStem + ".weight_offset" + level, "I64", shape, std::vector<int64_t>(w.offset.begin(), w.offset.end()));
  stored->Put(kStem + ".scale_bias", "F32", {kN, 1}, std::vector<float>(kN));
  stored->Put("model.norm.weight", "BF16", {4}, std::vector<BF16>(4));
  return stored;
}

const Format kFormats[] = {
    {},
    {.packing = Packing::kNone},
    {.groups = 16, .expected = BlockFormat::kQ4_0},
    {.groups = 8, .expected = BlockFormat::kI4_64},
    {.groups = 4},
    {.groups = 1, .two_levels = false},
    {.type = "W4A16", .packing = Packing::kInputs, .groups = 1, .two_levels = false},
    {.type = "W4A16", .groups = 4, .two_levels = false, .one_column = true, .offsets = true, .expected = BlockFormat::kU4},
    {.type = "W4A16", .packing = Packing::kNone, .groups = 8, .two_levels = false, .offsets = true, .expected = BlockFormat::kU4_64},
};

TEST(AscendInt4, WeightsAreThoseOfTheFormula) {
  for (const Format& f : kFormats) {
    for (const int64_t group_size : {f.groups == 1 ? 0 : kK / f.groups, int64_t{0}}) {
      SCOPED_TRACE(fmt::format("{}, {} groups, group_size {}", f.type, f.groups, group_size));
      const auto checkpoint = OpenAscendInt4(Stored(f, group_size));
      ASSERT_TRUE(checkpoint) << checkpoint.error();
      EXPECT_THAT((*checkpoint)->Names(), ElementsAre(kName, "model.norm.weight"));
      EXPECT_EQ((*checkpoint)->Find(kName)->type, "I4");
      EXPECT_EQ((*checkpoint)->Find(kName)->shape, (std::vector<int64_t>{kN, kK}));
      EXPECT_FALSE((*checkpoint)->Find(kStem + ".weight_scale").has_value());
      ASSERT_EQ((*checkpoint)->BlockFormatOf(kName), f.expected);
      EXPECT_TRUE((*checkpoint)->quantization().SchemeOf(kStem, "I4").has_value());
      const Codes w(f);
      const BlockFormatInfo info = InfoOf(f.expected);
      std::vector<float> row(kK);
      BlockRow blocks;
      for (int64_t r = 0; r < kN; ++r) {
        ASSERT_TRUE((*checkpoint)->ReadRows(kName, r, r + 1, row.data()).ok());
        ASSERT_TRUE((*checkpoint)->ReadBlocks(kName, r, &blocks).ok());
        for (int64_t i = 0; i < kK; ++i) {
          ASSERT_EQ(row[static_cast<size_t>(i)], w.Weight(f, r, i)) << r << " " << i;
          const auto g = static_cast<size_t>(i / info.group);
          const int zero = f.offsets ? blocks.sub_min[g] : 8;
          ASSERT_EQ(HalfToFloat(blocks.scale[g]) * static_cast<float>(blocks.codes[static_cast<size_t>(i)] - zero),
                    w.Weight(f, r, i));
        }
      }
    }
  }
}

// Others of the same file are as they were.
TEST(AscendInt4, OnlyWhatTheDescriptionNames) {
  Format f;
  f.type = "W8A8_DYNAMIC";
  f.packing = Packing::kNone;
  const auto checkpoint = OpenAscendInt4(Stored(f, 256));
  ASSERT_TRUE(checkpoint) << checkpoint.error();
  EXPECT_EQ((*checkpoint)->Find(kName)->type, "I8");
  EXPECT_THAT((*checkpoint)->Names(), Contains(kStem + ".weight_scale"));
  EXPECT_EQ((*checkpoint)->BlockFormatOf(kName), BlockFormat::kNone);
}

// What opening says, or then reading row 7; "" if both go well.
template <typename Change>
std::string Error(const Format& f, int64_t group_size, Change change) {
  auto stored = Stored(f, group_size);
  change(*stored);
  const auto checkpoint = OpenAscendInt4(std::move(stored));
  if (!checkpoint) return checkpoint.error().message();
  BlockRow row;
  const Status status = (*checkpoint)->ReadBlocks(kName, 7, &row);
  std::vector<float> floats(kK);
  EXPECT_EQ((*checkpoint)->ReadRows(kName, 7, 8, floats.data()).message(), status.message());
  return status.message();
}

TEST(AscendInt4, WhatDoesNotFitIsNamedInOneLine) {
  const Format two, bytes{.packing = Packing::kNone}, one{.groups = 1, .two_levels = false};
  const auto none = [](MemoryCheckpoint&) {};
  EXPECT_EQ(Error(two, 256, none), "");
  const auto erase = [](const char* end) { return [end](MemoryCheckpoint& c) { c.tensors.erase(kStem + end); }; };
  EXPECT_EQ(Error(two, 256, erase(".weight_scale")), kStem + ".weight_scale: found nothing, expected floats [24, 1]");
  EXPECT_EQ(Error(two, 256, erase(".weight_scale_second")), kStem + ".weight_scale_second: found nothing, expected floats [24, 2]");
  EXPECT_EQ(Error(two, 256, [](MemoryCheckpoint& c) {
              c.tensors.erase(kStem + ".weight_scale_second");
              c.tensors.erase(kStem + ".weight_offset_second");
            }),
            kStem + ".weight_scale_second: found nothing, expected floats [24, 2]");
  EXPECT_EQ(Error(two, 0, erase(".weight_offset_second")), "");
  EXPECT_EQ(Error(one, 0, erase(".weight_offset")), "");

  const auto shape = [](const std::string& end, std::vector<int64_t> to) {
    return [end, to](MemoryCheckpoint& c) { c.tensors[kStem + end].info.shape = to; };
  };
  EXPECT_EQ(Error(two, 256, shape(".weight", {13, 512})),
            kName + ": found I8 [13, 512], expected I8 [24, 512], or [12, 512] with two codes in a byte");
  EXPECT_THAT(Error(two, 256, shape(".weight", {24, 256})), HasSubstr("found I8 [24, 256], expected I8 [24, 512]"));
  EXPECT_THAT(Error(two, 256, [](MemoryCheckpoint& c) { c.model.intermediate_size = 25; }),
              AllOf(HasSubstr("found I8 [12, 512], expected I8 [25, 512]"), Not(HasSubstr("two codes"))));
  EXPECT_THAT(Error(two, 256, shape(".weight_scale", {25, 1})), HasSubstr("weight_scale: found F32 [25, 1], expected floats [24, 1]"));
  EXPECT_THAT(Error(two, 256, shape(".weight_scale_second", {24, 3})),
              HasSubstr("weight_scale_second: found F32 [24, 3], expected floats [24, 2]"));
  EXPECT_THAT(Error(two, 0, shape(".weight_scale_second", {24, 3})), AllOf(HasSubstr("weight_scale_second: found F32 [24, 3]"), HasSubstr("whole groups of 512")));
  EXPECT_THAT(Error(two, 0, shape(".weight_scale_second", {25, 2})), HasSubstr("weight_scale_second: found F32 [25, 2]"));
  EXPECT_THAT(Error(two, 0, shape(".weight_scale_second", {0, 2})), HasSubstr("weight_scale_second: found F32 [0, 2]"));
  EXPECT_THAT(Error(two, 0, shape(".weight_scale_second", {24, 32})), HasSubstr("a multiple of 32"));
  EXPECT_THAT(Error(two, 100, none), HasSubstr("whole groups of 100 of 512 inputs"));
  EXPECT_THAT(Error(two, 256, shape(".weight_offset_second", {24, 1})),
              HasSubstr("weight_offset_second: found I64 [24, 1], expected numbers [24, 2]"));
  const auto type = [](const char* end, const char* to) { return [=](MemoryCheckpoint& c) { c.tensors[kStem + end].info.type = to; }; };
  EXPECT_THAT(Error(two, 256, type(".weight_scale", "I32")), HasSubstr("weight_scale: found I32 [24, 1], expected floats"));
  EXPECT_THAT(Error(two, 256, type(".weight_scale_second", "F64")), HasSubstr("weight_scale_second: found F64 [24, 2], expected floats"));
  EXPECT_THAT(Error(two, 256, type(".weight_offset", "BOOL")), HasSubstr("weight_offset: found BOOL [24, 1], expected numbers"));

  for (const float bad : {-1.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    EXPECT_THAT(Error(two, 256, [&](MemoryCheckpoint& c) {
                  std::vector<float> scales(kN, 0.5f);
                  scales[9] = bad;
                  c.Put(kStem + ".weight_scale", "F32", {kN, 1}, scales);
                }),
                HasSubstr("weight_scale: value 9 is"));
  }
  EXPECT_THAT(Error(two, 256, [](MemoryCheckpoint& c) {
                c.Put(kStem + ".weight_scale_second", "F32", {kN, 2}, std::vector<float>(kN * 2, 1e9f));
              }),
              AllOf(HasSubstr(kName + ": row 7: found the scale"), HasSubstr("expected a finite binary16 number")));
  EXPECT_THAT(Error(two, 256, [](MemoryCheckpoint& c) { c.Put(kStem + ".weight_offset", "F32", {kN, 1}, std::vector<float>(kN, 1.0f)); }),
              HasSubstr("weight_offset: value 0 is 1, expected 0"));
  EXPECT_THAT(Error(two, 256, [](MemoryCheckpoint& c) {
                c.Put(kStem + ".weight_offset_second", "I64", {kN, 2}, std::vector<int64_t>(kN * 2, 3));
              }),
              HasSubstr(kName + ": row 7: found the offset 3, expected 0"));
  EXPECT_THAT(Error(one, 0, [](MemoryCheckpoint& c) {
                c.Put(kStem + ".weight_offset", "F32", {kN, 1}, std::vector<float>(kN, 0.5f));
              }),
              HasSubstr("row 7: found the offset 0.5, expected an integer from -8 to 7"));
  EXPECT_THAT(Error(bytes, 256, [](MemoryCheckpoint& c) { c.tensors[kName].bytes[7 * kK + 5] = 8; }),
              HasSubstr(kName + ": row 7: found the code 8 at input 5, expected -8 to 7"));
}

}  // namespace
}  // namespace tiercel::checkpoint
