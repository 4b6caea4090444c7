#include "model/kv_channels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "checkpoint/memory_checkpoint_test_util.h"

namespace tiercel::model {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;

std::vector<float> Sizes(const checkpoint::MemoryCheckpoint& checkpoint, const checkpoint::LinearTensors& tensors, const std::vector<float>& norm,
                         Range rows = {0, 2}) {
  const auto sizes = OutputSizes(checkpoint, "k_proj", tensors, norm, rows);
  EXPECT_TRUE(sizes.has_value()) << sizes.error();
  return sizes.value_or(std::vector<float>{});
}

TEST(KvChannels, AnOutputIsAsLargeAsItsWeightsTheNormsAndItsBiasTogether) {
  checkpoint::MemoryCheckpoint checkpoint;
  checkpoint.Put("k_proj.weight", "F32", {2, 2}, std::vector<float>{3, 4, 1, 0});
  EXPECT_THAT(Sizes(checkpoint, {}, {1, 1}), ElementsAre(FloatEq(5), FloatEq(1)));
  EXPECT_THAT(Sizes(checkpoint, {}, {2, 0.5f}), ElementsAre(FloatEq(std::sqrt(40.0f)), FloatEq(2)));
  EXPECT_THAT(Sizes(checkpoint, {}, {1, 1}, {1, 2}), ElementsAre(FloatEq(1)));
  checkpoint::LinearTensors biased;
  biased.bias = {-12, 0};
  EXPECT_THAT(Sizes(checkpoint, biased, {1, 1}), ElementsAre(FloatEq(13), FloatEq(1)));
}

TEST(KvChannels, BytesAreTakenTimesTheirScales) {
  checkpoint::MemoryCheckpoint checkpoint;
  checkpoint.Put("k_proj.weight", "I8", {2, 2}, std::vector<int8_t>{-30, 40, 10, 0});
  checkpoint::LinearTensors dynamic;
  dynamic.scheme = checkpoint::LinearScheme::kDynamic;
  dynamic.input.kind = checkpoint::InputKind::kPerToken;
  dynamic.scale = {0.1f, 2};
  EXPECT_THAT(Sizes(checkpoint, dynamic, {1, 1}), ElementsAre(FloatEq(5), FloatEq(20)));
  checkpoint::LinearTensors fixed = dynamic;  // its scales are those of weights and inputs: 2 and 40 of the inputs' 20
  fixed.scheme = checkpoint::LinearScheme::kStatic;
  fixed.input = {checkpoint::InputKind::kStatic, 20, 0};
  fixed.scale = {2, 40};
  EXPECT_THAT(Sizes(checkpoint, fixed, {1, 1}), ElementsAre(FloatEq(5), FloatEq(20)));
  checkpoint::LinearTensors weight_only;
  weight_only.scheme = checkpoint::LinearScheme::kWeightOnly;
  weight_only.scale = {0.1f, 1};
  weight_only.offset = {10, 4};  // (−40, 30) / 10 and (6, −4)
  EXPECT_THAT(Sizes(checkpoint, weight_only, {1, 1}), ElementsAre(FloatEq(5), FloatEq(std::sqrt(52.0f))));
}

TEST(KvChannels, AStaticLinearHasItsBiasAmongTheSums) {
  checkpoint::MemoryCheckpoint checkpoint;
  checkpoint.Put("k_proj.weight", "I8", {1, 2}, std::vector<int8_t>{3, 4});
  checkpoint::LinearTensors fixed;
  fixed.scheme = checkpoint::LinearScheme::kStatic;
  fixed.input = {checkpoint::InputKind::kStatic, 0.5f, -6};  // a weight is worth 1
  fixed.scale = {0.5f};
  // y = (q·W + acc_bias) / 2 with q = x / 0.5 − 6: acc_bias = 6 · 7 + 24 is a bias of 12.
  fixed.acc_bias = {66};
  EXPECT_THAT(Sizes(checkpoint, fixed, {1, 1}, {0, 1}), ElementsAre(FloatEq(13)));
}

TEST(KvChannels, ScalesArePowersOfTwoRelativeToTheLargestOfTheHead) {
  const std::vector<float> sizes = {8, 1, 5, 1.9f, 0.1f, 0.1f, 0.1f, 100};
  EXPECT_THAT(KeyScales(sizes, 4), ElementsAre(1, 0.25f, 1, 0.25f, std::exp2(-10.0f), 1, std::exp2(-10.0f), 1));
  EXPECT_THAT(KeyScales(std::vector<float>{1e-30f, 1, 0, 1}, 4), ElementsAre(std::exp2(-20.0f), 1, std::exp2(-20.0f), 1));
}

TEST(KvChannels, WhatSaysNothingChangesNothing) {
  EXPECT_THAT(KeyScales(std::vector<float>{0, 0}, 2), ElementsAre(1, 1));
  EXPECT_THAT(KeyScales(std::vector<float>{0, 3, 0, 1}, 4), ElementsAre(1, 1, 1, 1));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(KeyScales(std::vector<float>{NAN, 2, NAN, 2}, 4), ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(KeyScales(std::vector<float>{kInfinity, 2}, 2), ElementsAre(1, 1));
}

}  // namespace
}  // namespace tiercel::model
