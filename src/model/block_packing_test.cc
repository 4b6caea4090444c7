#include "model/block_packing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "base/bf16.h"
#include "checkpoint/gguf_blocks.h"
#include "kernels/reference/block_weights.h"

namespace tiercel::model {
namespace {

constexpr checkpoint::GgufTensorType kTypes[] = {checkpoint::GgufTensorType::kQ4_0, checkpoint::GgufTensorType::kQ4_1, checkpoint::GgufTensorType::kQ5_0,
                                     checkpoint::GgufTensorType::kQ5_1, checkpoint::GgufTensorType::kQ8_0, checkpoint::GgufTensorType::kQ4_K,
                                     checkpoint::GgufTensorType::kQ5_K, checkpoint::GgufTensorType::kQ6_K};

// A row's bytes with any codes and scales; those that are binary16 get an exponent that is finite.
std::vector<uint8_t> RandomRow(checkpoint::GgufTensorType type, int64_t k, std::mt19937& random) {
  const checkpoint::GgufBlock block = *checkpoint::GgufBlockOf(static_cast<uint32_t>(type));
  std::vector<uint8_t> bytes(static_cast<size_t>(k / block.elements * block.bytes));
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
  const int64_t halfs = type == checkpoint::GgufTensorType::kQ6_K ? 208 : 0;
  const bool two = type == checkpoint::GgufTensorType::kQ4_1 || type == checkpoint::GgufTensorType::kQ5_1 || type == checkpoint::GgufTensorType::kQ4_K ||
                   type == checkpoint::GgufTensorType::kQ5_K;
  for (size_t at = static_cast<size_t>(halfs); at < bytes.size(); at += static_cast<size_t>(block.bytes)) {
    bytes[at + 1] = static_cast<uint8_t>((bytes[at + 1] & 0x83) | 0x18);
    if (two) bytes[at + 3] = static_cast<uint8_t>((bytes[at + 3] & 0x83) | 0x18);
  }
  return bytes;
}

// W of the packed strip is W of the file, as Dequantize has it (whose truth is another program's, see gguf_test).
void ExpectSameWeights(checkpoint::GgufTensorType type, int64_t k, Range slice) {
  std::mt19937 random(static_cast<uint32_t>(type) + static_cast<uint32_t>(k));
  std::vector<std::vector<uint8_t>> files;
  std::vector<checkpoint::BlockRow> rows(16);
  StripRows strip = {};
  for (int64_t c = 0; c < 16; ++c) {
    files.push_back(RandomRow(type, k, random));
    checkpoint::ReadBlocks(type, files.back().data(), k, &rows[static_cast<size_t>(c)]);
    if (c != 5) strip[static_cast<size_t>(c)] = &rows[static_cast<size_t>(c)];
  }
  const BlockFormat format = checkpoint::BlockFormatOf(type);
  ASSERT_TRUE(CheckSlice("w", format, k, slice).ok());
  std::vector<uint8_t> packed(static_cast<size_t>(StripBytes(format, slice.size())), 0xEE);
  PackStrip(format, strip, slice, packed.data());
  const kernels::reference::StripReader reader(format, packed.data());
  for (int64_t c = 0; c < 16; ++c) {
    std::vector<float> exact(static_cast<size_t>(k));
    checkpoint::Dequantize(type, files[static_cast<size_t>(c)].data(), k, exact.data());
    const BlockFormatInfo info = InfoOf(format);
    const int64_t padded = (slice.size() + info.unit - 1) / info.unit * info.unit;
    for (int64_t i = 0; i < padded; ++i) {
      const double w = double{reader.Scale(i / info.group, c)} * (reader.Code(i, c) - info.zero) -
                       double{reader.Min(i / info.group, c)};
      const float expected = c == 5 || i >= slice.size() ? 0.0f : exact[static_cast<size_t>(slice.begin + i)];
      ASSERT_NEAR(w, expected, std::abs(expected) * 1e-6 + 1e-6) << info.name << " column " << c << " k " << i;
    }
  }
}

TEST(PackStrip, HoldsTheFilesWeights) {
  for (const checkpoint::GgufTensorType type : kTypes) {
    const bool k_quant = checkpoint::GgufBlockOf(static_cast<uint32_t>(type))->elements == 256;
    const int64_t step = k_quant ? 256 : 32;
    ExpectSameWeights(type, 1024, {0, 1024});
    ExpectSameWeights(type, 768, {256, 768});
    ExpectSameWeights(type, 7 * step, {2 * step, 7 * step});
    if (HasFatalFailure()) return;
  }
}

TEST(CheckSlice, NamesTheTensorAndTheWayOut) {
  EXPECT_TRUE(CheckSlice("down", BlockFormat::kQ4_K, 2432, {0, 2432}).ok());
  EXPECT_TRUE(CheckSlice("down", BlockFormat::kQ4_0, 2432, {1216, 2432}).ok());
  const Status status = CheckSlice("down", BlockFormat::kQ4_K, 9728, {2432, 4864});
  EXPECT_EQ(status.message(),
            "down: found 9728 inputs in Q4_K blocks of 256, expected that each rank has whole blocks; use another "
            "--tensor-parallel-size, or --quantization none for BF16 weights");
}

// A strip takes what its rows take in the file: nothing is larger, but for columns and inputs that are padded.
TEST(StripBytes, AreThoseOfTheFile) {
  for (const checkpoint::GgufTensorType type : kTypes) {
    const checkpoint::GgufBlock block = *checkpoint::GgufBlockOf(static_cast<uint32_t>(type));
    EXPECT_EQ(StripBytes(checkpoint::BlockFormatOf(type), 1024), 16 * 1024 / block.elements * block.bytes);
  }
}

// Every value is within half a step of the scale, the largest one within the binary16 rounding of the scale.
TEST(QuantizeToInt4, RoundsToTheNearestCode) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.03f);
  for (const int64_t k : {128, 200, 1024}) {
    std::vector<float> w(static_cast<size_t>(k));
    for (float& x : w) x = normal(random);
    checkpoint::BlockRow row;
    checkpoint::QuantizeToInt4(w.data(), k, &row);
    for (int64_t i = 0; i < k; ++i) {
      const float scale = HalfToFloat(row.scale[static_cast<size_t>(i / 128)]);
      const float value = scale * static_cast<float>(row.codes[static_cast<size_t>(i)] - 8);
      // Codes reach from −8 to 7 steps, so what is opposite to the largest value may lack half a step more.
      EXPECT_LE(std::abs(value - w[static_cast<size_t>(i)]), std::abs(scale) * 1.01f);
    }
  }
  std::vector<float> zeros(128, 0.0f);
  checkpoint::BlockRow row;
  checkpoint::QuantizeToInt4(zeros.data(), 128, &row);
  EXPECT_EQ(row.codes, std::vector<uint8_t>(128, 8));
}

TEST(ToHalf, IsTheNearestOfAll) {
  // Every binary16 number comes back, and what lies between two neighbors goes to the nearer one, at ties to the even.
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    ASSERT_EQ(ToHalf(HalfToFloat(half)), half);
    ASSERT_EQ(ToHalf(-HalfToFloat(half)), half | 0x8000);
    const float next = bits + 1 < 0x7c00 ? HalfToFloat(static_cast<uint16_t>(bits + 1)) : 65536.0f;
    const float middle = HalfToFloat(half) / 2 + next / 2;
    ASSERT_EQ(ToHalf(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(ToHalf(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(ToHalf(std::nextafter(middle, 1e9f)), bits + 1);
  }
  EXPECT_EQ(ToHalf(1e30f), 0x7c00);
  EXPECT_TRUE(std::isnan(HalfToFloat(ToHalf(NAN))));
}

}  // namespace
}  // namespace tiercel::model
