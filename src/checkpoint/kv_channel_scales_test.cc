#include "checkpoint/kv_channel_scales.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "checkpoint/memory_checkpoint_test_util.h"

namespace tiercel::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kAttention = "model.layers.3.self_attn.";

// Four channels, of keys' offsets one for all.
MemoryCheckpoint Complete() {
  MemoryCheckpoint checkpoint;
  const auto put = [&](const std::string& name, const std::vector<float>& values) {
    checkpoint.Put(kAttention + name, "F32", {std::ssize(values)}, values);
  };
  put("k_proj.kv_cache_scale", {1, 2, 3, 4});
  put("k_proj.kv_cache_offset", {-5});
  put("v_proj.kv_cache_scale", {0.5f, 0.25f, 2, 8});
  put("v_proj.kv_cache_offset", {0, -1, -2, -3});
  return checkpoint;
}

TEST(KvChannelScales, OfTheRanksChannels) {
  const MemoryCheckpoint checkpoint = Complete();
  const auto scales = ReadKvChannelScales(checkpoint, kAttention, 4, {1, 3});
  ASSERT_TRUE(scales.has_value()) << scales.error();
  EXPECT_THAT(scales->k_scale, ElementsAre(2, 3));
  EXPECT_THAT(scales->k_offset, ElementsAre(-5, -5));
  EXPECT_THAT(scales->v_scale, ElementsAre(0.25f, 2));
  EXPECT_THAT(scales->v_offset, ElementsAre(-1, -2));
}

TEST(KvChannelScales, OthersAreNamed) {
  const auto message = [](const std::string& name, const std::vector<float>& values) {
    MemoryCheckpoint checkpoint = Complete();
    checkpoint.Put(kAttention + name, "F32", {std::ssize(values)}, values);
    const auto scales = ReadKvChannelScales(checkpoint, kAttention, 4, {0, 2});
    return scales.has_value() ? "" : scales.error().message();
  };
  // A channel of another rank's, too: all ranks refuse the file, or none.
  for (const float bad : {0.0f, -1.0f, std::nanf(""), HUGE_VALF}) {
    EXPECT_THAT(message("v_proj.kv_cache_scale", {1, 1, 1, bad}),
                AllOf(HasSubstr(kAttention + "v_proj.kv_cache_scale"), HasSubstr("expected a scale from 1e-18 to 1e+18")));
  }
  for (const float bad : {std::nanf(""), -HUGE_VALF}) {
    EXPECT_THAT(message("k_proj.kv_cache_offset", {bad}), HasSubstr("expected a finite offset"));
  }
  EXPECT_THAT(message("k_proj.kv_cache_scale", {1, 2, 3}), HasSubstr(kAttention + "k_proj.kv_cache_scale"));
}

}  // namespace
}  // namespace tiercel::checkpoint
