#include "quantize/static_input.h"

#include <gtest/gtest.h>

#include <random>

namespace tiercel::quantize {
namespace {

constexpr size_t kFeatures = 64, kSampleTokens = 50;

// Normal numbers, those of token 0 and of feature 0 multiplied.
model::LinearInputs SampleInputs(float of_token, float of_feature) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  model::LinearInputs inputs;
  inputs.ranges.min.assign(kFeatures, 0);
  inputs.ranges.max.assign(kFeatures, 0);
  for (size_t t = 0; t < kSampleTokens; ++t) {
    for (size_t i = 0; i < kFeatures; ++i) {
      const BF16 x = ToBF16(normal(random) * (t == 0 ? of_token : 1) * (i == 0 ? of_feature : 1));
      inputs.sample.push_back(x);
      inputs.ranges.min[i] = std::min(inputs.ranges.min[i], ToFloat(x));
      inputs.ranges.max[i] = std::max(inputs.ranges.max[i], ToFloat(x));
    }
  }
  return inputs;
}

TEST(StaticInput, CoversTheRangeWithZeroExact) {
  const StaticInput input = StaticInputOf({{-1, 2, 3}, {-0.5, 4, 50}}, nullptr);
  EXPECT_FLOAT_EQ(input.scale, 51.0f / 255);
  EXPECT_EQ(input.offset, -123);  // −1 is q = −128
  const std::vector<float> smooth = {1, 1, 10};
  EXPECT_FLOAT_EQ(StaticInputOf({{-1, 2, 3}, {-0.5, 4, 50}}, &smooth).scale, 6.0f / 255);
  EXPECT_EQ(StaticInputOf({{5}, {6}}, nullptr).offset, -128);  // from 0 on
}

TEST(StaticInput, LosesLittleWithoutOutliers) {
  const InputLoss loss = LossOf(SampleInputs(1, 1), nullptr);
  EXPECT_GT(loss.per_token, 0.002);
  EXPECT_LT(loss.per_token, 0.01);
  EXPECT_LT(loss.one_scale, 0.02);
}

TEST(StaticInput, ATokensOutliersCostTheOthers) {
  const InputLoss loss = LossOf(SampleInputs(100, 1), nullptr);
  EXPECT_GT(loss.one_scale, 0.3);
  EXPECT_LT(loss.per_token, 0.01);
}

TEST(StaticInput, AFeaturesOutliersAreSmoothedAway) {
  std::vector<float> smooth(kFeatures, 1);
  smooth[0] = 100;
  const model::LinearInputs inputs = SampleInputs(1, 100);
  EXPECT_LT(LossOf(inputs, &smooth).one_scale, 0.02);
  EXPECT_LT(LossOf(inputs, &smooth).per_token, 0.01);
}

TEST(StaticInput, ZerosLoseNothing) {
  model::LinearInputs inputs;
  inputs.ranges = {{0, 0}, {0, 0}};
  inputs.sample.resize(4);
  EXPECT_EQ(LossOf(inputs, nullptr).one_scale, 0);
  EXPECT_EQ(LossOf(inputs, nullptr).per_token, 0);
}

}  // namespace
}  // namespace tiercel::quantize
