#include "serving/serve_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serving/serve_config_test_util.h"

namespace tiercel::serving {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

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
       {"trust-remote-code", "FLASHCOMM1", "TASK_QUEUE_ENABLE",
        "HCCL_OP", "VISIBLE_DEVICES"}) {
    EXPECT_THAT(config->warnings, Contains(HasSubstr(part)));
  }
  EXPECT_THAT(config->warnings, Not(Contains(HasSubstr("pa_shape_list"))));
  EXPECT_THAT(config->non_default_args, HasSubstr("'max_model_len': 5500"));
}

TEST(ServeConfig, RanksAndFlashComm) {
  const auto made = [](std::vector<std::string> flags, const Environ& environ = {}) {
    flags.insert(flags.begin(), "dir");
    const auto config = Make(flags, environ);
    EXPECT_TRUE(config) << config.error().message();
    return *config;
  };
  const Environ on = {{"VLLM_ASCEND_ENABLE_FLASHCOMM1", "1"}}, old = {{"VLLM_ASCEND_ENABLE_FLASHCOMM", "1"}};
  EXPECT_EQ(made({}).environment.ranks, 1);
  EXPECT_EQ(made({"-tp", "4"}).environment.ranks, 4);
  EXPECT_EQ(made({"-tp", "4", "--distributed-executor-backend", "mp"}).environment.ranks, 4);
  const ServeConfig one = made({"-tp", "4", "--distributed-executor-backend", "uni"}, on);
  EXPECT_EQ(one.environment.ranks, 1);
  EXPECT_EQ(one.tensor_parallel_size, 4);
  EXPECT_THAT(one.warnings, Contains(HasSubstr("one team serves the whole model")));
  EXPECT_THAT(one.warnings, Contains(HasSubstr("one rank has nothing to communicate")));

  EXPECT_EQ(made({"-tp", "2"}).load.graph.flashcomm_rows, -1);
  EXPECT_EQ(made({"-tp", "2"}, on).load.graph.flashcomm_rows, 1000);
  EXPECT_EQ(made({"-tp", "2"}, old).load.graph.flashcomm_rows, 1000);
  EXPECT_TRUE(made({"-tp", "2"}, on).warnings.empty());
  const Environ fused = {{"VLLM_ASCEND_ENABLE_MATMUL_ALLREDUCE", "1"}};
  EXPECT_EQ(made({"-tp", "2"}).load.graph.fuse_sum, model::FuseSum::kWithFlashComm);
  EXPECT_EQ(made({"-tp", "2"}, fused).load.graph.fuse_sum, model::FuseSum::kAlways);
  EXPECT_TRUE(made({"-tp", "2"}, fused).warnings.empty());
  EXPECT_THAT(made({}, fused).warnings, Contains(HasSubstr("nothing to add up")));
  const auto with = [&](const char* json, const Environ& environ) {
    return made({"-tp", "2", "--additional-config", json}, environ).load.graph.flashcomm_rows;
  };
  EXPECT_EQ(with(R"({"enable_flashcomm1": true})", {}), 1000);
  EXPECT_EQ(with(R"({"enable_flashcomm1": false})", on), -1);
  EXPECT_EQ(with(R"({"sp_threshold": 64, "enable_flashcomm1": true})", {}), 64);
  EXPECT_EQ(with(R"({"sp_threshold": 64})", on), 64);
  EXPECT_EQ(with(R"({"sp_threshold": 64})", {}), -1);
  for (const auto& [flags, message] : std::vector<std::pair<std::vector<std::string>, const char*>>{
           {{"dir", "-tp", "65"}, "argument --tensor-parallel-size: found 65, expected 1 … 64"},
           {{"dir", "--additional-config", R"({"sp_threshold": -1})"}, "sp_threshold: found -1"}}) {
    const auto config = Make(flags, {});
    ASSERT_FALSE(config);
    EXPECT_THAT(config.error().message(), HasSubstr(message));
  }
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
            "VLLM_ASCEND_MLP_GATE_UP_PREFETCH_SIZE: found '18M', expected an integer from 0 to 1000000000000000");
}

TEST(ServeConfig, NoEffectIsSaidOnceAndOnlyForOtherValuesThanTheDefault) {
  const auto config = Make({"--swap-space", "4", "--decode-context-parallel-size", "1", "-dcp", "2"});
  ASSERT_TRUE(config);
  EXPECT_THAT(config->warnings, Not(Contains(HasSubstr("--swap-space"))));
  EXPECT_THAT(config->warnings, Contains(HasSubstr("--decode-context-parallel-size has no effect here")));
}

TEST(ServeConfig, Page) {
  EXPECT_TRUE(Make({"dir"})->server.ui);
  EXPECT_FALSE(Make({"dir", "--no-ui"})->server.ui);
}

TEST(ServeConfig, Quantization) {
  EXPECT_EQ(Make({"dir"})->quantization, "");
  EXPECT_EQ(Make({"dir", "--quantization", "ascend"})->load.weights.quantize, checkpoint::QuantizeTo::kNone);
  EXPECT_EQ(Make({"dir", "-q", "int8"})->load.weights.quantize, checkpoint::QuantizeTo::kInt8);
  EXPECT_EQ(Make({"dir", "-q", "int4"})->load.weights.quantize, checkpoint::QuantizeTo::kInt4);
  EXPECT_TRUE(Make({"dir", "-q", "gguf"})->load.weights.keep_blocks);
  EXPECT_FALSE(Make({"dir", "-q", "none"})->load.weights.keep_blocks);
}

TEST(ServeConfig, KvCacheDtype) {
  EXPECT_FALSE(Make({"dir"})->load.weights.kv_dtype.has_value());
  EXPECT_EQ(Make({"dir", "--kv-cache-dtype", "int8"})->load.weights.kv_dtype, DType::kI8);
  EXPECT_EQ(Make({"dir", "--kv-cache-dtype", "bfloat16"})->load.weights.kv_dtype, DType::kBF16);
  EXPECT_EQ(Make({"dir", "--kv-cache-dtype", "fp8"})->load.weights.kv_dtype, DType::kF8E4M3);
  EXPECT_EQ(Make({"dir", "--kv-cache-dtype", "fp8_e4m3"})->load.weights.kv_dtype, DType::kF8E4M3);
}

TEST(ServeConfig, WhatIsNotOfferedIsRefused) {
  EXPECT_THAT(ErrorOf({"--quantization", "modelopt"}),
              HasSubstr("--quantization: modelopt is not supported: ascend, compressed-tensors, gptq, awq, fp8, int8"));
  EXPECT_EQ(ErrorOf({"--enable-lora"}),
            "argument --enable-lora/--no-enable-lora: not supported; start without it (LoRA adapters "
            "are not offered yet)");
  for (const std::string other : {"fp8_e5m2", "fp8_inc", "fp8_ds_mla", "float16"}) {
    EXPECT_EQ(ErrorOf({"--kv-cache-dtype", other}),
              "argument --kv-cache-dtype: '" + other + "' is not supported (the CPU has no arithmetic for the "
              "others); offered: auto, bfloat16, int8, fp8, fp8_e4m3");
  }
  for (const auto& [flag, value] : {std::pair{"--runner", "draft"}, {"--convert", "reward"},
                                    {"--task", "reward"}, {"--load-format", "tensorizer"},
                                    {"--tokenizer-mode", "mistral"}, {"--config-format", "mistral"}}) {
    EXPECT_THAT(ErrorOf({flag, value}), HasSubstr(std::string("argument ") + flag)) << value;
  }
}

// The option's flag with a value that is not the default, as it would be used.
std::vector<std::string> AnotherValue(const options::OptionSpec& spec) {
  const std::string flag = "--" + std::string(spec.name());
  const std::string standard = spec.default_value;
  for (const std::string& choice : spec.ChoiceList()) {
    if (choice != standard) return {flag, choice};
  }
  switch (spec.kind) {
    case options::Kind::kSwitch: return {standard == "True" ? "--no-" + flag.substr(2) : flag};
    case options::Kind::kFlag: return {flag};
    case options::Kind::kInt:
    case options::Kind::kHumanInt:
    case options::Kind::kFloat:
    case options::Kind::kInts: return {flag, "7"};
    case options::Kind::kString:
    case options::Kind::kStrings: return {flag, "x"};
    case options::Kind::kJson: return {flag, R"({"k": 1})"};
    case options::Kind::kJsonList: return {flag, R"(["x"])"};
  }
  return {};
}

// A flag either works, or is named in the log, or is refused: none is taken in silence.
TEST(ServeConfig, EveryFlagIsAccountedFor) {
  int none = 0, refused = 0;
  for (const options::OptionGroup& group : options::ServeOptionTable().groups()) {
    for (const options::OptionSpec& spec : group.options) {
      if (spec.effect == options::Effect::kUsed) continue;
      const auto config = Make(AnotherValue(spec));
      const std::string flag = "--" + std::string(spec.name());
      if (spec.effect == options::Effect::kRefused) {
        ++refused;
        ASSERT_FALSE(config) << flag;
        EXPECT_THAT(config.error().message(), HasSubstr("argument " + spec.Display() + ": not sup"));
        EXPECT_EQ(config.error().code(), StatusCode::kInvalidArgument);
      } else {
        ++none;
        ASSERT_TRUE(config) << flag << ": " << config.error().message();
        EXPECT_THAT(config->warnings, Contains(HasSubstr(flag + " has no effect here")).Times(1));
      }
    }
  }
  EXPECT_GT(none, 100);
  EXPECT_GT(refused, 50);
}

// Whatever asks for what a request would then be refused.
TEST(ServeConfig, FlagsOfMissingFeaturesAreRefused) {
  for (const char* name :
       {"tool-parser-plugin", "tool-server", "tool-strict-level", "reasoning-parser-plugin",
        "reasoning-config",
        "enable-lora", "lora-modules", "max-loras", "max-lora-rank", "default-mm-loras",
        "kv-transfer-config", "enable-prompt-embeds", "logits-processors",
        "middleware", "grpc", "collect-detailed-traces",
        "enable-per-request-metrics"}) {
    const options::OptionSpec* spec = options::ServeOptionTable().Find(name);
    ASSERT_NE(spec, nullptr) << name;
    EXPECT_EQ(spec->effect, options::Effect::kRefused) << name;
  }
}

TEST(ServeConfig, OutputParsers) {
  EXPECT_FALSE(Make({"dir"})->server.api.auto_tool_choice);
  EXPECT_TRUE(Make({"dir", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"})
                  ->server.api.auto_tool_choice);
  EXPECT_EQ(Make({"dir", "--reasoning-parser", "deepseek_r1"})->server.api.reasoning,
            api::ReasoningFormat::kDeepSeekR1);
  EXPECT_THAT(ErrorOf({"--enable-auto-tool-choice"}), HasSubstr("requires --tool-call-parser"));
  EXPECT_THAT(ErrorOf({"--tool-call-parser", "mistral"}), HasSubstr("offered: hermes"));
  EXPECT_THAT(ErrorOf({"--reasoning-parser", "glm45"}), HasSubstr("offered: qwen3, deepseek_r1"));
}

TEST(ServeConfig, RulesBetweenFlags) {
  EXPECT_THAT(ErrorOf({"--ssl-keyfile", "k"}), HasSubstr("must be given together"));
}

TEST(ServeConfig, RangesNameTheFlag) {
  for (const auto& [flag, value] :
       {std::pair{"--port", "65536"}, {"--port", "-1"}, {"--block-size", "0"},
        {"--gpu-memory-utilization", "1.5"}, {"--gpu-memory-utilization", "0"},
        {"--max-num-seqs", "0"}, {"--max-model-len", "0"}, {"--cudagraph-capture-sizes", "0"},
        {"--tensor-parallel-size", "0"}, {"--shutdown-timeout", "-1"}, {"--stream-interval", "0"},
        {"--target-itl-ms", "-1"}, {"--target-itl-ms", "nan"}}) {
    EXPECT_THAT(ErrorOf({std::string(flag) + "=" + value}), HasSubstr(flag)) << value;
  }
}

TEST(ServeConfig, TheTargetOfGapsIsInMilliseconds) {
  auto config = Make({"dir"});
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->engine.target_itl, 0);
  config = Make({"dir", "--target-itl-ms", "80"});
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_DOUBLE_EQ(config->engine.target_itl, 0.08);
  // A prompt that is never cut fits into no target.
  EXPECT_THAT(ErrorOf({"--target-itl-ms=80", "--no-enable-chunked-prefill"}),
              HasSubstr("--target-itl-ms"));
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

TEST(ServeConfig, AnEmptyVariableIsNotSet) {
  for (const char* name :
       {"VLLM_LOGGING_LEVEL", "VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", "VLLM_USE_MODELSCOPE",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "VLLM_CPU_KVCACHE_SPACE", "VLLM_MAX_STOP_STRINGS",
        "VLLM_MAX_N_SEQUENCES", "VLLM_MAX_COMPLETION_PROMPTS", "VLLM_ASCEND_ENABLE_PREFETCH_MLP",
        "VLLM_ASCEND_MLP_GATE_UP_PREFETCH_SIZE", "VLLM_ASCEND_MLP_DOWN_PREFETCH_SIZE",
        "VLLM_ENABLE_RESPONSES_API_STORE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    for (const char* value : {"", " ", "\t\n"}) {
      const auto config = Make({}, {{name, value}});
      ASSERT_TRUE(config) << name << ": " << config.error().message();
      EXPECT_TRUE(config->warnings.empty()) << name;
      EXPECT_EQ(config->log_level, LogLevel::info);
      EXPECT_FALSE(config->server.dev_mode);
      EXPECT_FALSE(config->load.prefetch.enabled);
      EXPECT_FALSE(config->engine.kv_cache_memory_bytes.has_value());
    }
  }
}

TEST(ServeConfig, AVariableThatCannotBeReadIsNamed) {
  for (const auto& [name, value] :
       {std::pair{"VLLM_LOGGING_LEVEL", "foo"}, {"VLLM_LOGGING_LEVEL", "10"},
        {"VLLM_LOGGING_LEVEL", "off"}, {"VLLM_SERVER_DEV_MODE", "maybe"},
        {"VLLM_USE_MODELSCOPE", "ja"}, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1x"},
        {"VLLM_CPU_KVCACHE_SPACE", "much"}, {"VLLM_CPU_KVCACHE_SPACE", "-1"},
        {"VLLM_CPU_KVCACHE_SPACE", "nan"}, {"VLLM_CPU_KVCACHE_SPACE", "1e300"},
        {"VLLM_MAX_STOP_STRINGS", "0"}, {"VLLM_MAX_N_SEQUENCES", "1.5"},
        {"VLLM_MAX_COMPLETION_PROMPTS", "99999999999999999999"},
        {"VLLM_ASCEND_ENABLE_PREFETCH_MLP", "enable"},
        {"VLLM_ASCEND_MLP_DOWN_PREFETCH_SIZE", "-1"}, {"HF_HUB_OFFLINE", "x"},
        {"TRANSFORMERS_OFFLINE", "?"}}) {
    const std::string error = ErrorOf({}, {{name, value}});
    EXPECT_THAT(error, HasSubstr(std::string(name) + ": found '" + value + "', expected "));
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
}

TEST(ServeConfig, LogLevels) {
  for (const auto& [text, level] :
       {std::pair{"DEBUG", LogLevel::debug}, {"info", LogLevel::info}, {" info", LogLevel::info},
        {"Warning", LogLevel::warn}, {"WARN", LogLevel::warn}, {"ERROR\n", LogLevel::err},
        {"CRITICAL", LogLevel::critical}}) {
    const auto config = Make({}, {{"VLLM_LOGGING_LEVEL", text}});
    ASSERT_TRUE(config) << config.error().message();
    EXPECT_EQ(config->log_level, level) << text;
  }
  EXPECT_EQ(Make({"--log-level", "error"}, {{"VLLM_LOGGING_LEVEL", "debug"}})->log_level,
            LogLevel::err);
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

TEST(ServeConfig, ModelByFlagGivesWay) {
  auto config = Make({"--model", "m"});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->model, "m");
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
}  // namespace tiercel::serving
