#include "serving/json_configs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::serving {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string CompilationError(const std::string& json) {
  std::vector<std::string> notices;
  const auto graph = ReadCompilationConfig(json, &notices);
  return graph ? "" : graph.error().message();
}

TEST(CompilationConfig, ReadsGraphSettings) {
  std::vector<std::string> notices;
  const auto graph = ReadCompilationConfig(
      R"({"cudagraph_mode": "full_decode_only", "cudagraph_capture_sizes": [1, 8],
          "max_cudagraph_capture_size": 8})",
      &notices);
  ASSERT_TRUE(graph) << graph.error().message();
  EXPECT_EQ(graph->mode, model::GraphMode::kFullDecodeOnly);
  EXPECT_THAT(*graph->capture_sizes, ElementsAre(1, 8));
  EXPECT_EQ(graph->max_capture_size, 8);
  EXPECT_TRUE(notices.empty());
}

TEST(CompilationConfig, ErrorsNameFlagAndKey) {
  EXPECT_THAT(CompilationError(R"({"cudagraph_mode": "SOMETIMES"})"),
              HasSubstr("--compilation-config.cudagraph_mode"));
  EXPECT_THAT(CompilationError(R"({"cudagraph_mode": 3})"), HasSubstr("expected a string"));
  EXPECT_THAT(CompilationError(R"({"cudagraph_mod": "FULL"})"),
              HasSubstr("unknown key 'cudagraph_mod'"));
  for (const char* sizes : {"[0]", "[-1]", "[1, \"2\"]", "7", "[1.5]"}) {
    EXPECT_THAT(CompilationError(fmt::format(R"({{"cudagraph_capture_sizes": {}}})", sizes)),
                HasSubstr("cudagraph_capture_sizes"));
  }
}

TEST(CompilationConfig, WhatHasNoEffectIsNamed) {
  std::vector<std::string> notices;
  ASSERT_TRUE(ReadCompilationConfig(R"({"use_inductor": true})", &notices));
  EXPECT_THAT(notices, ElementsAre(HasSubstr("use_inductor has no effect")));
}

TEST(CompilationConfig, ModesOfOtherDevicesAreNamedForWhatTheyAreHere) {
  const auto notice = [](const char* mode) {
    std::vector<std::string> notices;
    EXPECT_TRUE(ReadCompilationConfig(fmt::format(R"({{"cudagraph_mode": "{}"}})", mode), &notices));
    return notices.empty() ? "" : notices[0];
  };
  EXPECT_EQ(notice("none"), "");
  EXPECT_EQ(notice("Full_Decode_Only"), "");
  EXPECT_THAT(notice("PIECEWISE"), HasSubstr("PIECEWISE is NONE here"));
  EXPECT_THAT(notice("full"), HasSubstr("full is FULL_DECODE_ONLY here"));
  EXPECT_THAT(notice("FULL_AND_PIECEWISE"), HasSubstr("is FULL_DECODE_ONLY here"));
}

TEST(AdditionalConfig, KnownKeysAreCheckedAndNamed) {
  model::LoadOptions load;
  std::vector<std::string> notices;
  EXPECT_TRUE(ReadAdditionalConfig(
      R"({"enable_kv_nz": true, "weight_prefetch_config":{"enabled":true}, "surprise": 1})",
      &load, &notices).ok());
  EXPECT_THAT(notices, ElementsAre(HasSubstr("enable_kv_nz has no effect yet"),
                                   HasSubstr("unknown key 'surprise'")));
}

TEST(AdditionalConfig, PaShapeListIsRead) {
  model::LoadOptions load;
  std::vector<std::string> notices;
  EXPECT_TRUE(ReadAdditionalConfig("{}", &load, &notices).ok());
  EXPECT_THAT(load.graph.pa_shape_list, IsEmpty());
  EXPECT_TRUE(ReadAdditionalConfig(R"({"pa_shape_list": [48,64,72,80]})", &load, &notices).ok());
  EXPECT_THAT(load.graph.pa_shape_list, ElementsAre(48, 64, 72, 80));
  EXPECT_THAT(notices, IsEmpty());
}

TEST(AdditionalConfig, WeightPrefetchIsRead) {
  model::LoadOptions load;
  std::vector<std::string> notices;
  EXPECT_TRUE(ReadAdditionalConfig("{}", &load, &notices).ok());
  EXPECT_FALSE(load.prefetch.enabled);
  const Status status = ReadAdditionalConfig(
      R"({"weight_prefetch_config": {"enabled": true, "prefetch_ratio": {
          "attn": {"qkv": 0.25, "o": 1.5}, "moe": {"gate_up": 0.8}, "mlp": {"gate_up": 1}}}})",
      &load, &notices);
  ASSERT_TRUE(status.ok()) << status;
  const model::WeightPrefetch* const prefetch = &load.prefetch;
  EXPECT_TRUE(prefetch->enabled);
  EXPECT_EQ(prefetch->qkv, 0.25);
  EXPECT_EQ(prefetch->o, 0);  // no share
  EXPECT_EQ(prefetch->gate_up, 1);
  EXPECT_EQ(prefetch->down, 1);  // not named: all of it
  EXPECT_THAT(notices, ElementsAre(HasSubstr("prefetch_ratio.attn.o: 1.5 is not within [0, 1]")));
}

TEST(AdditionalConfig, SettingsOfQuantization) {
  model::LoadOptions load;
  std::vector<std::string> notices;
  EXPECT_FALSE(load.weights.mix_static || load.weights.quantize_lm_head);
  EXPECT_TRUE(load.graph.fuse_norm_quant);
  EXPECT_TRUE(ReadAdditionalConfig(
                  R"({"w8a8_mix": "static", "quantize_lm_head": true,
                      "ascend_compilation_config": {"fuse_norm_quant": false}})",
                  &load, &notices)
                  .ok());
  EXPECT_TRUE(load.weights.mix_static && load.weights.quantize_lm_head);
  EXPECT_FALSE(load.graph.fuse_norm_quant);
  EXPECT_TRUE(notices.empty());
  EXPECT_TRUE(ReadAdditionalConfig(R"({"w8a8_mix": "dynamic"})", &load, &notices).ok());
  EXPECT_FALSE(load.weights.mix_static);
}

TEST(AdditionalConfig, ErrorsNameFlagAndKey) {
  for (const auto& [json, part] :
       {std::pair{R"({"pa_shape_list": [0]})", "--additional-config.pa_shape_list"},
        {R"({"pa_shape_list": {}})", "expected a list"},
        {R"({"weight_prefetch_config": {"enable": true}})", "unknown key 'enable'"},
        {R"({"weight_prefetch_config": {"enabled": "yes"}})", "expected true or false"},
        {R"({"weight_prefetch_config": {"prefetch_ratio": {"mlp": {"down": "x"}}}})",
         "prefetch_ratio.mlp.down"},
        {R"({"ascend_compilation_config": {"fuse_norms": true}})", "unknown key 'fuse_norms'"},
        {R"({"w8a8_mix": "both"})", "w8a8_mix: found \"both\""},
        {R"({"quantize_lm_head": "yes"})", "expected true or false"},
        {R"({"ascend_compilation_config": {"fuse_norm_quant": 1}})", "fuse_norm_quant"},
        {R"({"enable_flashcomm1": 1})", "enable_flashcomm1"}}) {
    model::LoadOptions load;
    std::vector<std::string> notices;
    EXPECT_THAT(ReadAdditionalConfig(json, &load, &notices).message(), HasSubstr(part)) << json;
  }
}

TEST(SpeculativeConfig, VllmsDefaultsAndWhatComesFirst) {
  std::vector<std::string> notices;
  const auto read = [&](const char* json, const char* method = "", const char* model = "", int64_t tokens = 0) {
    const auto drafts = ReadSpeculativeConfig(json, method, model, tokens, &notices);
    EXPECT_TRUE(drafts.has_value()) << json << ": " << drafts.error().message();
    return drafts && *drafts ? std::vector<int64_t>{(*drafts)->num_tokens, (*drafts)->lookup_min, (*drafts)->lookup_max}
                             : std::vector<int64_t>{};
  };
  using V = std::vector<int64_t>;
  EXPECT_EQ(read(""), V{});
  EXPECT_EQ(read("{}"), V{});
  EXPECT_EQ(read(R"({"method": "ngram", "num_speculative_tokens": 3})"), (V{3, 5, 5}));
  EXPECT_EQ(read(R"({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4})"), (V{3, 4, 4}));
  EXPECT_EQ(read(R"({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 2})"), (V{3, 2, 2}));
  EXPECT_EQ(read(R"({"model": "[ngram]", "num_speculative_tokens": 3, "prompt_lookup_min": 2, "prompt_lookup_max": 6})"),
            (V{3, 2, 6}));
  EXPECT_EQ(read("", "ngram", "", 7), (V{7, 5, 5}));
  EXPECT_EQ(read(R"({"method": "eagle", "num_speculative_tokens": 3})", "ngram", "", 7), (V{7, 5, 5}));
  EXPECT_TRUE(notices.empty());
  EXPECT_EQ(read(R"({"method": "ngram", "num_speculative_tokens": 3, "disable_by_batch_size": 8})"), (V{3, 5, 5}));
  EXPECT_EQ(read(R"({"model": "draft", "num_speculative_tokens": 3})"), V{});
  EXPECT_EQ(read(R"({"method": "suffix", "num_speculative_tokens": 3})"), V{});
  EXPECT_THAT(notices, ElementsAre(HasSubstr("disable_by_batch_size has no effect"), HasSubstr("a model of drafts (draft)"),
                                   HasSubstr("the method \"suffix\" makes no guesses")));
}

TEST(StructuredOutputsConfig, IsReadAndChecked) {
  api::ApiOptions options;
  std::string parser;
  std::vector<std::string> notices;
  ASSERT_EQ(ReadStructuredOutputsConfig(
                R"({"backend":"xgrammar","disable_any_whitespace":true,"enable_in_reasoning":true,
                    "reasoning_parser":"qwen3","disable_additional_properties":null})",
                &options, &parser, &notices),
            OkStatus());
  EXPECT_TRUE(options.disable_any_whitespace && options.enable_in_reasoning);
  EXPECT_FALSE(options.disable_additional_properties);
  EXPECT_EQ(parser, "qwen3");
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_NE(notices[0].find("--structured-outputs-config.backend has no effect"), std::string::npos);
  notices.clear();
  EXPECT_EQ(ReadStructuredOutputsConfig(R"({"backend":"auto"})", &options, &parser, &notices), OkStatus());
  EXPECT_TRUE(notices.empty());
  EXPECT_NE(ReadStructuredOutputsConfig(R"({"nothing":1})", &options, &parser, &notices).message().find("nothing"),
            std::string::npos);
  EXPECT_FALSE(ReadStructuredOutputsConfig(R"({"backend":1})", &options, &parser, &notices).ok());
}

}  // namespace
}  // namespace tiercel::serving
