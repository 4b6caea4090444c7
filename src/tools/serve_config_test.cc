#include "tools/serve_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::tools {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Expected<ServeConfig> Make(std::vector<std::string> words, const Environ& environ = {}) {
  const auto options = ParseOptions(ServeOptionTable(), std::move(words), 1);
  if (!options) return Unexpected(options.error());
  return MakeServeConfig(*options, environ);
}

std::string ErrorOf(std::vector<std::string> words, const Environ& environ = {}) {
  const auto config = Make(std::move(words), environ);
  EXPECT_FALSE(config);
  return config ? "" : config.error().message();
}

TEST(ServeConfig, DefaultsAreVllms) {
  const auto config = Make({});
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->model, "Qwen/Qwen3-0.6B");
  EXPECT_EQ(config->server.port, 8000);
  EXPECT_THAT(config->server.served_model_names, ElementsAre("Qwen/Qwen3-0.6B"));
  EXPECT_EQ(config->engine.block_size, 128);
  EXPECT_DOUBLE_EQ(config->engine.gpu_memory_utilization, 0.92);
  EXPECT_EQ(config->engine.max_model_len, 0);
  EXPECT_TRUE(config->engine.enable_prefix_caching);
  EXPECT_TRUE(config->engine.async_scheduling);
  EXPECT_TRUE(config->server.access_log);
  EXPECT_TRUE(config->warnings.empty());
}

// The command and the variables that the Ascend tutorial gives.
TEST(ServeConfig, TheTutorialsCommandIsUnderstood) {
  const auto config = Make(
      {"dir", "--served-model-name", "qwen3", "--trust-remote-code", "--async-scheduling",
       "--distributed-executor-backend", "mp", "--max-model-len", "5500",
       "--max-num-batched-tokens", "40960", "--compilation-config",
       R"({"cudagraph_mode": "FULL_DECODE_ONLY"})", "--additional-config",
       R"({"pa_shape_list":[48,64,72,80], "weight_prefetch_config":{"enabled":true}})", "--port",
       "8113", "--block-size", "128", "--gpu-memory-utilization", "0.9"},
      {{"ASCEND_RT_VISIBLE_DEVICES", "0,1,2,3"},
       {"TASK_QUEUE_ENABLE", "1"},
       {"HCCL_OP_EXPANSION_MODE", "AIV"},
       {"VLLM_ASCEND_ENABLE_FLASHCOMM1", "1"}});
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_THAT(config->server.served_model_names, ElementsAre("qwen3"));
  EXPECT_EQ(config->engine.max_model_len, 5500);
  EXPECT_EQ(config->engine.max_num_batched_tokens, 40960);
  EXPECT_EQ(config->load.graph.mode, model::GraphMode::kFullDecodeOnly);
  EXPECT_TRUE(config->load.prefetch.enabled);
  EXPECT_THAT(config->load.graph.pa_shape_list, ElementsAre(48, 64, 72, 80));
  EXPECT_EQ(config->server.port, 8113);
  for (const char* part :
       {"trust-remote-code", "distributed-executor-backend", "FLASHCOMM1", "TASK_QUEUE_ENABLE",
        "HCCL_OP", "VISIBLE_DEVICES"}) {
    EXPECT_THAT(config->warnings, Contains(HasSubstr(part)));
  }
  EXPECT_THAT(config->warnings, Not(Contains(HasSubstr("pa_shape_list"))));
  EXPECT_THAT(config->non_default_args, HasSubstr("'max_model_len': 5500"));
}

// What the tutorial's weight prefetch was before weight_prefetch_config, which comes first.
TEST(ServeConfig, TheMlpPrefetchVariables) {
  const Environ environ = {{"VLLM_ASCEND_ENABLE_PREFETCH_MLP", "1"},
                           {"VLLM_ASCEND_MLP_DOWN_PREFETCH_SIZE", "1048576"}};
  auto config = Make({"dir"}, environ);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_TRUE(config->load.prefetch.enabled);
  EXPECT_EQ(config->load.prefetch.qkv, 0);
  EXPECT_EQ(config->load.prefetch.o, 0);
  EXPECT_EQ(config->load.prefetch.gate_up_bytes, model::kMaxPrefetchBytes);
  EXPECT_EQ(config->load.prefetch.down_bytes, 1 << 20);
  EXPECT_THAT(config->warnings, ElementsAre(HasSubstr("PREFETCH_MLP is deprecated: use")));

  config = Make({"dir", "--additional-config", R"({"weight_prefetch_config": {"enabled": false}})"},
                environ);
  ASSERT_TRUE(config);
  EXPECT_FALSE(config->load.prefetch.enabled);

  config = Make({"dir"}, {{"VLLM_ASCEND_MLP_DOWN_PREFETCH_SIZE", "7"}});
  ASSERT_TRUE(config);
  EXPECT_FALSE(config->load.prefetch.enabled);
  EXPECT_THAT(config->warnings,
              ElementsAre(HasSubstr("has no effect here without VLLM_ASCEND_ENABLE_PREFETCH_MLP=1")));
  EXPECT_EQ(ErrorOf({"dir"}, {{"VLLM_ASCEND_MLP_GATE_UP_PREFETCH_SIZE", "18M"}}),
            "VLLM_ASCEND_MLP_GATE_UP_PREFETCH_SIZE: found '18M', expected a number of bytes");
}

TEST(ServeConfig, NoEffectIsSaidOnceAndOnlyForOtherValuesThanTheDefault) {
  const auto config = Make({"--swap-space", "4", "--tensor-parallel-size", "1", "-tp", "2"});
  ASSERT_TRUE(config);
  EXPECT_THAT(config->warnings, Not(Contains(HasSubstr("--swap-space"))));
  EXPECT_THAT(config->warnings, Contains(HasSubstr("--tensor-parallel-size has no effect here")));
}

TEST(ServeConfig, Quantization) {
  EXPECT_EQ(Make({"dir"})->quantization, "");
  EXPECT_FALSE(Make({"dir", "--quantization", "ascend"})->load.weights.quantize);
  EXPECT_TRUE(Make({"dir", "-q", "int8"})->load.weights.quantize);
}

TEST(ServeConfig, KvCacheDtype) {
  EXPECT_FALSE(Make({"dir"})->load.weights.kv_dtype.has_value());
  EXPECT_EQ(Make({"dir", "--kv-cache-dtype", "int8"})->load.weights.kv_dtype, DType::kI8);
  EXPECT_EQ(Make({"dir", "--kv-cache-dtype", "bfloat16"})->load.weights.kv_dtype, DType::kBF16);
}

TEST(ServeConfig, WhatIsNotOfferedIsRefused) {
  EXPECT_THAT(ErrorOf({"--quantization", "awq"}),
              HasSubstr("--quantization: awq is not supported: ascend, compressed-tensors, int8"));
  EXPECT_THAT(ErrorOf({"--lora-modules", "a=b"}), HasSubstr("argument --lora-modules"));
  EXPECT_THAT(ErrorOf({"--runner", "pooling"}), HasSubstr("--runner"));
  EXPECT_THAT(ErrorOf({"--kv-cache-dtype", "fp8"}), HasSubstr("--kv-cache-dtype"));
  EXPECT_THAT(ErrorOf({"--load-format", "tensorizer"}), HasSubstr("--load-format"));
}

TEST(ServeConfig, RulesBetweenFlags) {
  EXPECT_EQ(ErrorOf({"--enable-auto-tool-choice"}),
            "Error: --enable-auto-tool-choice requires --tool-call-parser");
  EXPECT_THAT(ErrorOf({"--tool-call-parser", "x"}), HasSubstr("invalid tool call parser: x"));
  EXPECT_THAT(ErrorOf({"--reasoning-parser", "x"}), HasSubstr("invalid reasoning parser: x"));
  EXPECT_THAT(ErrorOf({"--enable-log-outputs"}), HasSubstr("requires --enable-log-requests"));
  EXPECT_THAT(ErrorOf({"--ssl-keyfile", "k"}), HasSubstr("must be given together"));
}

TEST(ServeConfig, RangesNameTheFlag) {
  for (const auto& [flag, value] :
       {std::pair{"--port", "65536"}, {"--port", "-1"}, {"--block-size", "0"},
        {"--gpu-memory-utilization", "1.5"}, {"--gpu-memory-utilization", "0"},
        {"--max-num-seqs", "0"}, {"--max-model-len", "0"}, {"--cudagraph-capture-sizes", "0"},
        {"--tensor-parallel-size", "0"}, {"--shutdown-timeout", "-1"}, {"--stream-interval", "0"}}) {
    EXPECT_THAT(ErrorOf({std::string(flag) + "=" + value}), HasSubstr(flag)) << value;
  }
}

TEST(ServeConfig, VariablesAreReadWhereNoFlagSpeaks) {
  auto config = Make({}, {{"VLLM_CPU_KVCACHE_SPACE", "2"}, {"VLLM_API_KEY", "k"},
                          {"VLLM_SERVER_DEV_MODE", "1"}, {"VLLM_MAX_STOP_STRINGS", "3"}});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->engine.kv_cache_memory_bytes, int64_t{2} << 30);
  EXPECT_THAT(config->server.api_keys, ElementsAre("k"));
  EXPECT_TRUE(config->server.dev_mode);
  EXPECT_EQ(config->server.api.max_stop_strings, 3);
  config = Make({"--kv-cache-memory-bytes", "1G", "--api-key", "a", "b"},
                {{"VLLM_CPU_KVCACHE_SPACE", "2"}, {"VLLM_API_KEY", "k"}});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->engine.kv_cache_memory_bytes, int64_t{1} << 30);
  EXPECT_THAT(config->server.api_keys, ElementsAre("a", "b"));
  EXPECT_THAT(config->non_default_args, Not(HasSubstr("'a'")));
  EXPECT_THAT(ErrorOf({}, {{"VLLM_CPU_KVCACHE_SPACE", "much"}}),
              HasSubstr("VLLM_CPU_KVCACHE_SPACE"));
}

TEST(ServeConfig, UnknownVariablesAreNamed) {
  const auto config = Make({}, {{"VLLM_ASCEND_ENABLE_FLASHCOM", "1"}});
  ASSERT_TRUE(config);
  EXPECT_THAT(config->warnings, Contains(HasSubstr("VLLM_ASCEND_ENABLE_FLASHCOM")));
  EXPECT_THAT(ErrorOf({"--fail-on-environ-validation"}, {{"VLLM_NONSENSE", "1"}}),
              HasSubstr("VLLM_NONSENSE"));
}

TEST(ServeConfig, OldRopeFlagsBecomeOverrides) {
  const auto config = Make({"--rope-scaling", R"({"rope_type":"yarn","factor":4.0})",
                            "--rope-theta", "1000000", "--hf-overrides", R"({"a": 1})"});
  ASSERT_TRUE(config);
  EXPECT_THAT(config->hf_overrides, HasSubstr(R"("rope_scaling":{"rope_type":"yarn")"));
  EXPECT_THAT(config->hf_overrides, HasSubstr(R"("rope_theta":1000000)"));
  EXPECT_THAT(config->hf_overrides, HasSubstr(R"("a":1)"));
}

TEST(ServeConfig, ModelByFlagWarnsAndGivesWay) {
  auto config = Make({"--model", "m"});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->model, "m");
  EXPECT_THAT(config->warnings, Contains(HasSubstr("positional argument")));
  config = Make({"p", "--model", "m"});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->model, "p");
}

TEST(ServeConfig, GraphFlags) {
  EXPECT_EQ(Make({"--enforce-eager"})->load.graph.mode, model::GraphMode::kNone);
  const auto config = Make({"--cudagraph-capture-sizes", "1", "4"});
  ASSERT_TRUE(config);
  EXPECT_THAT(*config->load.graph.capture_sizes, ElementsAre(1, 4));
}

}  // namespace
}  // namespace tiercel::tools
