#include "engine/engine_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/fake_lm.h"

namespace tiercel::engine {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

// One block is a MiB, the weights and the activations a MiB each; positions up to 4096.
FakeLm Model() {
  FakeLmOptions options;
  options.kv_block_bytes = kMiB;
  return FakeLm(options);
}

std::string Error(EngineOptions options, const MemoryBudget& memory = {}) {
  const FakeLm model = Model();
  const auto config = Configure(std::move(options), model, memory);
  return config ? "ok" : config.error().message();
}

TEST(EngineConfigTest, FillsInTheDefaults) {
  const FakeLm model = Model();
  const auto config = Configure({}, model, {});
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->options.max_model_len, 4096);
  EXPECT_EQ(config->options.max_num_batched_tokens, 2048);
  EXPECT_EQ(config->options.max_num_seqs, 128);
  EXPECT_EQ(config->kv.num_blocks, 1 + 128 * 32);
  EXPECT_EQ(config->limits.max_rows, 2048);
  EXPECT_EQ(config->limits.logit_group_rows, 128);
  EXPECT_EQ(config->max_length, 4096);
}

TEST(EngineConfigTest, ShortModelsNeedFewerTokens) {
  EngineOptions options;
  options.max_model_len = 16;
  options.max_num_seqs = 4;
  const FakeLm model = Model();
  const auto config = Configure(options, model, {});
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->options.max_num_batched_tokens, 64);
}

TEST(EngineConfigTest, SizesTheCacheFromEachSource) {
  const FakeLm model = Model();
  EngineOptions options;
  options.max_model_len = 1024;  // 8 blocks
  options.gpu_memory_utilization = 0.5;
  // Half of 100 MiB, less weights and activations.
  EXPECT_EQ(Configure(options, model, {100 * kMiB, 90 * kMiB})->kv.num_blocks, 48);
  // What is available binds.
  EXPECT_EQ(Configure(options, model, {100 * kMiB, 30 * kMiB})->kv.num_blocks, 28);
  // Never more than is useful.
  EXPECT_EQ(Configure(options, model, {90000 * kMiB, 90000 * kMiB})->kv.num_blocks, 1 + 128 * 8);
  options.kv_cache_memory_bytes = 20 * kMiB;
  EXPECT_EQ(Configure(options, model, {100 * kMiB, 90 * kMiB})->kv.num_blocks, 20);
  options.num_gpu_blocks_override = 5;
  const auto overridden = Configure(options, model, {100 * kMiB, 90 * kMiB});
  EXPECT_EQ(overridden->kv.num_blocks, 5);
  EXPECT_EQ(overridden->max_length, 4 * 128);
}

TEST(EngineConfigTest, RefusesACacheThatIsTooSmall) {
  EngineOptions options;
  options.max_model_len = 1024;
  EXPECT_THAT(Error(options, {3 * kMiB, 3 * kMiB}),
              HasSubstr("No available memory for the cache blocks. Try increasing "
                        "`gpu_memory_utilization` when initializing the engine."));
  options.kv_cache_memory_bytes = 8 * kMiB;
  EXPECT_THAT(Error(options),
              HasSubstr("To serve at least one request with the model's max seq len (1024), (0.01 "
                        "GiB KV cache is needed, which is larger than the available KV cache "
                        "memory (0.01 GiB). Based on the available memory, the estimated maximum "
                        "model length is 896. Try increasing `gpu_memory_utilization` or "
                        "decreasing `max_model_len`"));
  options.kv_cache_memory_bytes = 9 * kMiB;
  EXPECT_EQ(Error(options), "ok");
}

// Untouched pages cost nothing: nobody else would notice before the cache is full.
TEST(EngineConfigTest, RefusesACacheThatNoMemoryHolds) {
  const MemoryBudget memory = {100 * kMiB, 10 * kMiB};  // blocks of 1 MiB, 2 MiB for all else
  EngineOptions options;
  options.num_gpu_blocks_override = 98;
  EXPECT_EQ(Error(options, memory), "ok");  // more than is free: the user's word counts
  options.num_gpu_blocks_override = 99;
  EXPECT_THAT(Error(options, memory),
              HasSubstr("num_gpu_blocks_override asks for a KV cache of 0.10 GiB. This machine or "
                        "its control group has 0.10 GiB"));
  EXPECT_EQ(Error(options), "ok");  // not known
  options = {.kv_cache_memory_bytes = 200 * kMiB};
  EXPECT_THAT(Error(options, memory), HasSubstr("kv_cache_memory_bytes asks for"));
  options.max_num_seqs = 2;  // 64 blocks are all that can be used
  EXPECT_EQ(Error(options, memory), "ok");
}

// What the copies of the weights leave is divided evenly; each engine has activations of its own.
TEST(EngineConfigTest, EnginesShareTheMemory) {
  const FakeLm model = Model();
  const MemoryBudget memory = {100 * kMiB, 90 * kMiB, /*engines=*/4, /*weight_copies=*/2};
  EngineOptions options;
  options.max_model_len = 1024;
  options.gpu_memory_utilization = 0.5;
  EXPECT_EQ(Configure(options, model, memory)->kv.num_blocks, (50 - 2) / 4 - 1);
  options.num_gpu_blocks_override = 23;  // 4 · 23 + 2 + 4 MiB
  EXPECT_EQ(Error(options, memory), "ok");
  options.num_gpu_blocks_override = 24;
  EXPECT_THAT(Error(options, memory),
              HasSubstr("num_gpu_blocks_override asks for a KV cache of 0.02 GiB for each of 4 engines."));
}

// --max-model-len auto: the length follows the pool, wherever its size comes from.
TEST(EngineConfigTest, FitsTheLengthToThePool) {
  const FakeLm model = Model();  // 4096 positions: 32 blocks
  EngineOptions options;
  options.fit_max_model_len = true;
  const auto length = [&](const MemoryBudget& memory = {}) {
    const auto config = Configure(options, model, memory);
    EXPECT_EQ(config->max_length, config->options.max_model_len);
    EXPECT_EQ(config->limits.max_context, config->options.max_model_len);
    return config->options.max_model_len;
  };
  EXPECT_EQ(length(), 4096);
  EXPECT_EQ(length({100 * kMiB, 35 * kMiB}), 4096);
  // 34 MiB less weights and activations are 32 blocks, one of which is never handed out.
  EXPECT_EQ(length({100 * kMiB, 34 * kMiB}), 31 * 128);
  options.kv_cache_memory_bytes = 9 * kMiB;
  EXPECT_EQ(length(), 1024);
  options.num_gpu_blocks_override = 3;
  EXPECT_EQ(length(), 256);
  options = {.fit_max_model_len = true, .kv_cache_memory_bytes = 1};
  EXPECT_THAT(Error(options), HasSubstr("No available memory for the cache blocks."));
}

TEST(EngineConfigTest, ChecksTheFlagsAgainstEachOther) {
  EngineOptions options;
  options.max_model_len = 5000;
  EXPECT_THAT(Error(options), HasSubstr("User-specified max_model_len (5000) is greater than the "
                                        "derived max_model_len (max_position_embeddings=4096"));
  options.allow_long_max_model_len = true;
  EXPECT_EQ(Error(options), "ok");
  options = {};
  options.max_num_batched_tokens = 64;
  options.max_num_seqs = 65;
  EXPECT_EQ(Error(options),
            "max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (65).");
  options.max_num_seqs = 8;
  options.enable_chunked_prefill = false;
  EXPECT_THAT(Error(options),
              HasSubstr("max_num_batched_tokens (64) is smaller than max_model_len (4096)."));
  options = {};
  options.long_prefill_token_threshold = 5000;
  EXPECT_THAT(Error(options), HasSubstr("long_prefill_token_threshold (5000)"));
}

TEST(EngineConfigTest, KnowsWhatTheCacheCanUse) {
  EngineOptions options;
  EXPECT_EQ(MostCachedTokens(options, 4096), 128 * (1 + 128 * 32));  // as in FillsInTheDefaults
  options.max_num_seqs = 3;
  options.max_model_len = 130;
  EXPECT_EQ(MostCachedTokens(options, 4096), 128 * (1 + 3 * 2));
  options.max_num_seqs = 65536;
  options.max_model_len = 1 << 19;
  EXPECT_EQ(MostCachedTokens(options, 4096), 128 * (1 + (int64_t{1} << 28)));
}

TEST(EngineConfigTest, RefusesValuesOutOfRange) {
  const auto bad = [](auto set) {
    EngineOptions options;
    set(&options);
    return Error(options);
  };
  EXPECT_THAT(bad([](auto* o) { o->max_model_len = -1; }), HasSubstr("max_model_len"));
  EXPECT_THAT(bad([](auto* o) { o->max_model_len = 1; }), HasSubstr("at least 2"));
  EXPECT_THAT(bad([](auto* o) { o->max_num_seqs = int64_t{1} << 40; }), HasSubstr("max_num_seqs"));
  EXPECT_THAT(bad([](auto* o) { o->max_num_batched_tokens = (1 << 22) + 1; }),
              HasSubstr("max_num_batched_tokens must be between 1 and 2^22, got 4194305."));
  EXPECT_EQ(bad([](auto* o) { o->max_num_batched_tokens = 1 << 22; }), "ok");
  EXPECT_THAT(bad([](auto* o) {
                o->max_model_len = 1 << 23;
                o->allow_long_max_model_len = true;
                o->enable_chunked_prefill = false;
              }),
              HasSubstr("max_num_batched_tokens must be between 1 and 2^22, got 8388608."));
  EXPECT_THAT(bad([](auto* o) {
                o->max_num_seqs = o->max_num_batched_tokens = 65536;
                o->block_size = 1;
                o->max_model_len = 4097;
                o->allow_long_max_model_len = true;
              }),
              HasSubstr("have 4097 blocks each (block_size 1); all together may have 2^28."));
  EXPECT_THAT(bad([](auto* o) { o->block_size = 0; }), HasSubstr("block_size"));
  EXPECT_THAT(bad([](auto* o) { o->gpu_memory_utilization = 1.5; }),
              HasSubstr("gpu_memory_utilization must be in (0, 1], got 1.5."));
  EXPECT_THAT(bad([](auto* o) { o->num_gpu_blocks_override = 1; }),
              HasSubstr("num_gpu_blocks_override"));
  EXPECT_THAT(bad([](auto* o) { o->kv_cache_memory_bytes = 0; }),
              HasSubstr("kv_cache_memory_bytes"));
}

}  // namespace
}  // namespace tiercel::engine
