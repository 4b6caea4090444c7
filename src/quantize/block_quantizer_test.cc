// Blocks of GGUF's types: against what can be written exactly, the best scale of all, and the rounding error of a grid.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/bf16.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_types.h"
#include "platform/mapped_file.h"
#include "quantize/block_quantizer.h"

namespace tiercel::quantize {
namespace {

using checkpoint::GgufTensorType;

constexpr GgufTensorType kTypes[] = {GgufTensorType::kQ4_0, GgufTensorType::kQ5_0, GgufTensorType::kQ5_1, GgufTensorType::kQ8_0,
                                     GgufTensorType::kQ4_K, GgufTensorType::kQ5_K, GgufTensorType::kQ6_K};

std::string Name(GgufTensorType type) { return checkpoint::GgufTypeName(static_cast<uint32_t>(type)); }

std::vector<float> RoundTrip(GgufTensorType type, const std::vector<float>& w) {
  const checkpoint::GgufBlock block = *checkpoint::GgufBlockOf(static_cast<uint32_t>(type));
  const auto k = std::ssize(w);
  std::vector<uint8_t> blocks(static_cast<size_t>(k / block.elements * block.bytes));
  QuantizeBlocks(type, w.data(), k, blocks.data());
  std::vector<float> out(w.size());
  checkpoint::Dequantize(type, blocks.data(), k, out.data());
  return out;
}

double Loss(const std::vector<float>& w, const std::vector<float>& out, const std::vector<float>& counts = {}) {
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double lost = double{w[i]} - double{out[i]};
    sum += (counts.empty() ? 1.0 : double{counts[i]}) * lost * lost;
  }
  return sum;
}

double Relative(const std::vector<float>& w, const std::vector<float>& out) {
  return std::sqrt(Loss(w, out) / Loss(w, std::vector<float>(w.size())));
}

std::vector<float> Normal(size_t n, unsigned seed, float sigma = 0.02f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

// blocks.gguf holds random codes and what the gguf package makes of them: values that have blocks exactly.
TEST(BlockQuantizer, FindsWhatCanBeWrittenExactly) {
  const std::string path = TIERCEL_TEST_DATA "/gguf/blocks.gguf";
  const auto file = platform::MappedFile::Open(path);
  ASSERT_TRUE(file) << file.error();
  const auto parsed = checkpoint::GgufFile::Parse(file->bytes(), path);
  ASSERT_TRUE(parsed) << parsed.error();
  for (const GgufTensorType type : kTypes) {
    const auto golden = parsed->tensors().find(Name(type) + ".expected");
    ASSERT_NE(golden, parsed->tensors().end());
    std::vector<float> exact(1024);
    checkpoint::Dequantize(GgufTensorType::kF32, file->bytes().data() + golden->second.begin, 1024, exact.data());
    // Not where a group happens to lack all large codes, and random scales of a block's groups make small ones coarse.
    const bool of_32 = checkpoint::GgufBlockOf(static_cast<uint32_t>(type))->elements == 32;
    EXPECT_LT(Relative(exact, RoundTrip(type, exact)), of_32 ? 0.01 : 0.02) << Name(type);
  }
}

// All 2¹⁶ scales.
TEST(BlockQuantizer, ScalesLoseHardlyMoreThanTheBestOfAll) {
  for (unsigned seed = 0; seed < 4; ++seed) {
    const std::vector<float> w = Normal(32, seed);
    const double rms = std::sqrt(Loss(w, std::vector<float>(w.size())) / static_cast<double>(w.size()));
    std::vector<float> counts;  // how much each square counts
    for (const float v : w) counts.push_back(static_cast<float>(1 + std::fabs(double{v}) / rms));
    for (const auto& [type, half] : {std::pair{GgufTensorType::kQ4_0, 8.0f}, std::pair{GgufTensorType::kQ5_0, 16.0f}}) {
      double least = std::numeric_limits<double>::infinity();
      for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
        const float scale = HalfToFloat(static_cast<uint16_t>(bits));
        if (!std::isfinite(scale) || scale == 0) continue;
        std::vector<float> out;
        for (const float v : w) out.push_back(scale * std::nearbyint(std::fmax(-half, std::fmin(half - 1, v / scale))));
        least = std::fmin(least, Loss(w, out, counts));
      }
      const double loss = Loss(w, RoundTrip(type, w), counts);
      EXPECT_GE(loss, least * 0.9999);
      EXPECT_LT(loss, least * 1.2) << Name(type) << " " << seed;
    }
  }
}

// Weights evenly spread over a group's range lose 1 / √12 of a step, which is the range divided by the steps.
TEST(BlockQuantizer, LossIsThatOfAGridOfSoManySteps) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> even(-1, 1);
  std::vector<float> w(256 * 64);
  for (float& v : w) v = even(random);
  for (const auto& [type, steps] : {std::pair{GgufTensorType::kQ4_0, 15.0}, std::pair{GgufTensorType::kQ5_0, 31.0},
                                    std::pair{GgufTensorType::kQ5_1, 31.0}, std::pair{GgufTensorType::kQ8_0, 254.0},
                                    std::pair{GgufTensorType::kQ4_K, 15.0}, std::pair{GgufTensorType::kQ5_K, 31.0},
                                    std::pair{GgufTensorType::kQ6_K, 63.0}}) {
    const double grid = 2 / steps / std::sqrt(12.0);
    const double rms = std::sqrt(Loss(w, RoundTrip(type, w)) / static_cast<double>(w.size()));
    EXPECT_LT(rms, grid * 1.05) << Name(type);
    EXPECT_GT(rms, grid * 0.75) << Name(type);
  }
}

TEST(BlockQuantizer, OddGroups) {
  for (const GgufTensorType type : kTypes) {
    SCOPED_TRACE(Name(type));
    EXPECT_EQ(RoundTrip(type, std::vector<float>(256)), std::vector<float>(256));
    // Below what binary16 has: zeros, or at least no more than it was.
    for (const float v : RoundTrip(type, std::vector<float>(256, 1e-30f))) EXPECT_LE(std::fabs(v), 1e-7f);
    for (const float sign : {1.0f, -1.0f}) {
      for (const float v : RoundTrip(type, std::vector<float>(256, sign * 0.5f))) EXPECT_NEAR(v, sign * 0.5f, 0.02f);
    }
    std::vector<float> spike(256);
    spike[7] = -3;
    EXPECT_LT(Relative(spike, RoundTrip(type, spike)), 0.01);
    // Too large: the caller sees that it is not finite.
    bool finite = true;
    for (const float v : RoundTrip(type, std::vector<float>(256, 3e38f))) finite = finite && std::isfinite(v);
    EXPECT_FALSE(finite);
  }
  EXPECT_EQ(RoundTrip(GgufTensorType::kBF16, {1.5f, -0.25f}), (std::vector<float>{1.5f, -0.25f}));
}

}  // namespace
}  // namespace tiercel::quantize
