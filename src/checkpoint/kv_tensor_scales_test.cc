#include "checkpoint/kv_tensor_scales.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "checkpoint/memory_checkpoint_test_util.h"

namespace tiercel::checkpoint {
namespace {

using ::testing::HasSubstr;

const std::string kLayerPrefix = "model.layers.3.self_attn.";

// Of a checkpoint with these scales, under names behind kLayerPrefix.
Expected<KvTensorScales> Read(const std::vector<std::pair<std::string, float>>& scales) {
  MemoryCheckpoint checkpoint;
  for (const auto& [name, scale] : scales) checkpoint.Put(kLayerPrefix + name, "F32", {1}, std::vector<float>{scale});
  checkpoint.Put("model.layers.2.self_attn.k_scale", "F32", {1}, std::vector<float>{9});
  return ReadKvTensorScales(checkpoint, kLayerPrefix);
}

void ExpectScales(const Expected<KvTensorScales>& scales, float key, float value) {
  ASSERT_TRUE(scales.has_value()) << scales.error();
  EXPECT_EQ(scales->key, key);
  EXPECT_EQ(scales->value, value);
}

TEST(KvTensorScales, AllNamesThatQuantizersUse) {
  ExpectScales(Read({}), 1, 1);
  for (const auto& [key, value] : {std::pair{"k_scale", "v_scale"}, {"attn.k_scale", "attn.v_scale"},
                                   {"k_proj.k_scale", "v_proj.v_scale"}, {"k_proj.output_scale", "v_proj.output_scale"}}) {
    ExpectScales(Read({{key, 0.5f}, {value, 0.25f}}), 0.5f, 0.25f);
    ExpectScales(Read({{key, 0.5f}}), 0.5f, 0.5f);
    EXPECT_TRUE(IsKvTensorScale(kLayerPrefix + key));
    EXPECT_TRUE(IsKvTensorScale(kLayerPrefix + value));
  }
  ExpectScales(Read({{"kv_scale", 3}}), 3, 3);
  EXPECT_TRUE(IsKvTensorScale(kLayerPrefix + "kv_scale"));
  for (const char* other : {"model.layers.0.self_attn.q_scale", "model.layers.0.self_attn.k_proj.input_scale",
                            "model.layers.0.mlp.k_scale", "k_scale", "model.layers.0.self_attn.k_proj.weight_scale"}) {
    EXPECT_FALSE(IsKvTensorScale(other)) << other;
  }
}

TEST(KvTensorScales, AnyFloatOfOneElement) {
  MemoryCheckpoint checkpoint;
  checkpoint.Put(kLayerPrefix + "k_scale", "BF16", {}, std::vector{ToBF16(0.75f)});
  checkpoint.Put(kLayerPrefix + "v_scale", "F16", {1}, std::vector<uint16_t>{ToHalf(1.5f)});
  ExpectScales(ReadKvTensorScales(checkpoint, kLayerPrefix), 0.75f, 1.5f);
}

TEST(KvTensorScales, OthersAreNamed) {
  for (const float bad : {0.0f, -1.0f, std::nanf(""), HUGE_VALF}) {
    const auto scales = Read({{"k_scale", 1}, {"v_scale", bad}});
    ASSERT_FALSE(scales.has_value());
    EXPECT_THAT(scales.error().message(), HasSubstr(kLayerPrefix + "v_scale: found"));
  }
  MemoryCheckpoint checkpoint;
  checkpoint.Put(kLayerPrefix + "k_scale", "F32", {2}, std::vector<float>{1, 2});
  EXPECT_THAT(ReadKvTensorScales(checkpoint, kLayerPrefix).error().message(), HasSubstr("found [2], expected one scale"));
  checkpoint.Put(kLayerPrefix + "k_scale", "I32", {1}, std::vector<int32_t>{1});
  EXPECT_THAT(ReadKvTensorScales(checkpoint, kLayerPrefix).error().message(), HasSubstr("found I32, expected a float"));
}

}  // namespace
}  // namespace tiercel::checkpoint
