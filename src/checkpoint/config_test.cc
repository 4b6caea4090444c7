#include "checkpoint/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tiercel::checkpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Qwen3-0.6B's own file.
constexpr char kQwen3[] = R"({
  "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
  "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
  "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
  "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
  "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
  "use_cache": true, "use_sliding_window": false, "vocab_size": 151936})";

Expected<ModelConfig> Parse(std::string_view overrides, std::string_view base = kQwen3) {
  return ParseModelConfig(base, overrides, "dir/config.json");
}

std::string Error(std::string_view overrides, std::string_view base = kQwen3) {
  const auto config = Parse(overrides, base);
  return config ? "no error" : config.error().message();
}

TEST(ModelConfig, Qwen3) {
  const auto parsed = Parse("");
  ASSERT_TRUE(parsed) << parsed.error();
  const ModelConfig& c = *parsed;
  EXPECT_EQ(c.architecture, "Qwen3ForCausalLM");
  EXPECT_EQ(c.hidden_size, 1024);
  EXPECT_EQ(c.num_layers, 28);
  EXPECT_EQ(c.num_heads, 16);
  EXPECT_EQ(c.num_kv_heads, 8);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.intermediate_size, 3072);
  EXPECT_EQ(c.vocab_size, 151936);
  EXPECT_FLOAT_EQ(c.rms_norm_eps, 1e-6f);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_TRUE(c.qk_norm);
  EXPECT_FALSE(c.qkv_bias);
  EXPECT_FALSE(c.o_bias);
  EXPECT_EQ(c.rope.type, RopeType::kDefault);
  EXPECT_EQ(c.rope.theta, 1e6);
  EXPECT_EQ(c.dtype, DType::kBF16);
  EXPECT_THAT(c.eos_token_ids, ElementsAre(151645));
  EXPECT_EQ(c.bos_token_id, 151643);
  EXPECT_EQ(c.DerivedMaxModelLen(), 40960);
}

TEST(ModelConfig, Qwen2AndLlamaFromTheSameFields) {
  const auto qwen2 = Parse(R"({"architectures":["Qwen2ForCausalLM"],"head_dim":null})");
  ASSERT_TRUE(qwen2) << qwen2.error();
  EXPECT_TRUE(qwen2->qkv_bias);
  EXPECT_FALSE(qwen2->o_bias);
  EXPECT_FALSE(qwen2->qk_norm);
  EXPECT_EQ(qwen2->head_dim, 64);  // hidden_size / num_attention_heads

  const auto llama = Parse(R"({"architectures":["LlamaForCausalLM"],"attention_bias":true,
                               "mlp_bias":true,"num_key_value_heads":null})");
  ASSERT_TRUE(llama) << llama.error();
  EXPECT_TRUE(llama->qkv_bias);
  EXPECT_TRUE(llama->o_bias);
  EXPECT_TRUE(llama->mlp_bias);
  EXPECT_EQ(llama->num_kv_heads, 16);

  const auto by_type = Parse(R"({"architectures":null})");
  ASSERT_TRUE(by_type);
  EXPECT_EQ(by_type->architecture, "Qwen3ForCausalLM");
  const auto no_head_dim = Parse(R"({"head_dim":null})");
  ASSERT_TRUE(no_head_dim);
  EXPECT_EQ(no_head_dim->head_dim, 128);  // Qwen3's own default
}

TEST(ModelConfig, BothSpellingsOfTheType) {
  EXPECT_EQ(Parse(R"({"torch_dtype":"float16"})")->dtype, DType::kF16);
  EXPECT_EQ(Parse(R"({"dtype":"float32"})")->dtype, DType::kF32);
  EXPECT_EQ(Parse(R"({"dtype":"torch.bfloat16"})")->dtype, DType::kBF16);
  EXPECT_EQ(Parse(R"({"torch_dtype":null})")->dtype, DType::kBF16);
  EXPECT_THAT(Error(R"({"dtype":"float8"})"), HasSubstr("dtype: found \"float8\", expected"));
}

TEST(ModelConfig, YarnInEverySpelling) {
  for (const char* overrides : {
           R"({"rope_scaling":{"rope_type":"yarn","factor":4.0,
               "original_max_position_embeddings":32768}})",
           R"({"rope_scaling":{"type":"yarn","factor":4,
               "original_max_position_embeddings":32768}})",
           R"({"rope_parameters":{"rope_type":"yarn","factor":4.0,"rope_theta":1000000,
               "original_max_position_embeddings":32768}})",
           R"({"rope_parameters":{"full_attention":{"rope_type":"yarn","factor":4.0,
               "original_max_position_embeddings":32768}}})",
       }) {
    const auto c = Parse(overrides);
    ASSERT_TRUE(c) << overrides << c.error();
    EXPECT_EQ(c->rope.type, RopeType::kYarn) << overrides;
    EXPECT_EQ(c->rope.factor, 4);
    EXPECT_EQ(c->rope.theta, 1e6);
    EXPECT_EQ(c->rope.original_max_position_embeddings, 32768);
    EXPECT_EQ(c->rope.attention_factor, std::nullopt);
    EXPECT_TRUE(c->rope.truncate);
    EXPECT_EQ(c->DerivedMaxModelLen(), 131072);
  }
}

TEST(ModelConfig, YarnDetails) {
  const auto c = Parse(R"({"rope_scaling":{"rope_type":"yarn","factor":2,"beta_fast":16,
      "beta_slow":2,"truncate":false,"attention_factor":1.25}})");
  ASSERT_TRUE(c);
  EXPECT_EQ(c->rope.beta_fast, 16);
  EXPECT_EQ(c->rope.beta_slow, 2);
  EXPECT_FALSE(c->rope.truncate);
  EXPECT_EQ(c->rope.attention_factor, 1.25);
  EXPECT_EQ(c->rope.original_max_position_embeddings, 40960);  // by default the model's own
  EXPECT_EQ(c->DerivedMaxModelLen(), 81920);

  const auto m = Parse(R"({"rope_scaling":{"rope_type":"yarn","factor":40,"mscale":0.707,
      "mscale_all_dim":1.0}})");
  ASSERT_TRUE(m);
  EXPECT_NEAR(*m->rope.attention_factor, (0.0707 * std::log(40.0) + 1) / (0.1 * std::log(40.0) + 1),
              1e-12);
}

TEST(ModelConfig, LinearLlama3AndDefault) {
  const auto linear = Parse(R"({"rope_scaling":{"type":"linear","factor":2.5}})");
  ASSERT_TRUE(linear);
  EXPECT_EQ(linear->rope.type, RopeType::kLinear);
  EXPECT_EQ(linear->DerivedMaxModelLen(), 102400);

  const auto llama3 = Parse(R"({"rope_scaling":{"rope_type":"llama3","factor":8.0,
      "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}})");
  ASSERT_TRUE(llama3);
  EXPECT_EQ(llama3->rope.type, RopeType::kLlama3);
  EXPECT_EQ(llama3->rope.original_max_position_embeddings, 8192);
  EXPECT_EQ(llama3->DerivedMaxModelLen(), 40960);

  const auto plain = Parse(R"({"rope_theta":null,"rope_parameters":{"rope_type":"default",
      "rope_theta":5000000}})");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->rope.type, RopeType::kDefault);
  EXPECT_EQ(plain->rope.theta, 5e6);
}

TEST(ModelConfig, WhatIsNoJsonHasAPlaceAndAReason) {
  const auto with = [](const std::string& more) {
    std::string text = kQwen3;
    return Error("", text.insert(text.rfind('}'), more));
  };
  for (const char* number : {"NaN", "Infinity", "-Infinity"}) {  // Python's json writes them
    EXPECT_EQ(with(fmt::format(",\n\"unread\": [1, {}, \"\\\"NaN\"]", number)), "no error");
    EXPECT_THAT(with(fmt::format(",\"rms_norm_eps\": {}", number)),
                HasSubstr(fmt::format("dir/config.json: rms_norm_eps: found \"{}\", expected a number", number)));
  }
  EXPECT_THAT(with(",\n\"unread\": nan"), testing::AllOf(HasSubstr("dir/config.json: is not valid JSON ("),
                                                      HasSubstr("line 10, column 12: "), HasSubstr("invalid literal")));
  EXPECT_THAT(with(",\n\"unread\": \"\\ud800\""), testing::AllOf(HasSubstr("line 10, column "), HasSubstr("surrogate")));
  EXPECT_THAT(with(",\n\"unread\": 1" + std::string(400, '0')), HasSubstr("line 10, column 11: number overflow"));
  EXPECT_THAT(with(",\n\"unread\": \"\xe4\""), testing::AllOf(HasSubstr("line 10, column "), HasSubstr("UTF-8")));
}

// A value of a flag is not the file's fault.
TEST(ModelConfig, SaysWhereAValueIsFrom) {
  std::string base = kQwen3;
  base.replace(base.find("\"rope_scaling\": null"), 20, R"("rope_scaling": {"rope_type":"yarn","factor":0})");
  EXPECT_THAT(Error("{}", base), HasSubstr("dir/config.json: rope_scaling: factor: found 0"));
  EXPECT_THAT(Error(R"({"rope_scaling":{"beta_fast":1}})", base), HasSubstr("dir/config.json: rope_scaling: factor: found 0"));
  EXPECT_THAT(Error(R"({"rope_scaling":{"factor":-1}})", base), HasSubstr("--hf-overrides (or --rope-scaling): rope_scaling: factor: found -1"));
  EXPECT_THAT(Error(R"({"rope_scaling":{"type":"x"}})"), HasSubstr("--hf-overrides (or --rope-scaling): rope_scaling: rope_type: found \"x\""));
  EXPECT_THAT(Error(R"({"rope_theta":-1})"), HasSubstr("--hf-overrides (or --rope-theta): rope_theta: found -1"));
  EXPECT_THAT(Error(R"({"num_hidden_layers":0})"), HasSubstr("--hf-overrides: num_hidden_layers: found 0"));
  EXPECT_THAT(Error(R"({"num_hidden_layers":1})", R"({"architectures":["Qwen3ForCausalLM"],"hidden_size":0})"),
              HasSubstr("dir/config.json: hidden_size: found 0"));
}

// What would be dropped or guessed is refused: vLLM's rules, and Hugging Face's for llama3.
TEST(ModelConfig, ScalingNeedsItsTypeAndItsNumbers) {
  EXPECT_EQ(Error(R"({"rope_scaling":{"factor":4}})"),
            "--hf-overrides (or --rope-scaling): rope_scaling: rope_type: found nothing, expected default, linear, yarn or llama3: rope_scaling "
            "should have a 'rope_type' key");
  for (const char* none : {R"({"rope_scaling":{"factor":4,"rope_type":null}})", R"({"rope_parameters":{"factor":4,"rope_theta":7}})",
                           R"({"rope_parameters":{"full_attention":{"factor":4}}})"}) {
    EXPECT_THAT(Error(none), HasSubstr("should have a 'rope_type' key")) << none;
  }
  EXPECT_EQ(Error(R"({"rope_parameters":{"rope_theta":7}})"), "no error");
  EXPECT_THAT(Error(R"({"rope_scaling":{"type":"linear","rope_type":"yarn","factor":4}})"),
              HasSubstr("rope_type: found \"yarn\", expected the same as the older field type (\"linear\")"));
  EXPECT_EQ(Error(R"({"rope_scaling":{"type":"linear","rope_type":"linear","factor":4}})"), "no error");
  // An override says which of the two is meant.
  std::string base = kQwen3;
  base.replace(base.find("\"rope_scaling\": null"), 20, R"("rope_scaling": {"type":"yarn","rope_type":"linear","factor":2})");
  EXPECT_NE(Error("", base), "no error");
  EXPECT_EQ(Parse(R"({"rope_scaling":{"rope_type":"linear"}})", base)->rope.type, RopeType::kLinear);
  const char* const kNumbers[] = {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"};
  for (const std::string missing : kNumbers) {
    std::string scaling = R"("rope_type":"llama3","factor":8)";
    for (const std::string key : kNumbers) {
      if (key != missing) scaling += fmt::format(",\"{}\":{}", key, key == kNumbers[0] ? 1 : 4);
    }
    EXPECT_THAT(Error(fmt::format("{{\"rope_scaling\":{{{}}}}}", scaling)), HasSubstr(missing + ": found nothing, expected a number"));
  }
}

TEST(ModelConfig, OverridesMergeFieldByField) {
  std::string base = kQwen3;
  base.replace(base.find("\"rope_scaling\": null"), 20,
               R"("rope_scaling": {"type":"yarn","factor":2.0,"beta_fast":20})");
  const auto c = Parse(R"({"rope_scaling":{"factor":4.0}})", base);
  ASSERT_TRUE(c) << c.error();
  EXPECT_EQ(c->rope.type, RopeType::kYarn);
  EXPECT_EQ(c->rope.factor, 4);
  EXPECT_EQ(c->rope.beta_fast, 20);
  // The override's spelling of the type wins over the file's.
  EXPECT_EQ(Parse(R"({"rope_scaling":{"rope_type":"linear"}})", base)->rope.type,
            RopeType::kLinear);
  EXPECT_EQ(Parse(R"({"rope_parameters":{"rope_type":"linear","factor":3}})", base)->rope.factor,
            3);
  EXPECT_EQ(Parse(R"({"rope_parameters":{"rope_theta":7}})", base)->rope.theta, 7);
  EXPECT_EQ(Parse(R"({"rope_scaling":null})", base)->rope.type, RopeType::kDefault);
  EXPECT_THAT(Error("[1]"), HasSubstr("--hf-overrides: found [1], expected a JSON object"));
  EXPECT_THAT(Error("{"), HasSubstr("--hf-overrides: is not valid JSON"));
}

TEST(ModelConfig, NamesFieldFoundAndExpected) {
  EXPECT_EQ(Error(R"({"rope_scaling":{"rope_type":"longrope","factor":4}})"),
            "--hf-overrides (or --rope-scaling): rope_scaling: rope_type: found \"longrope\", expected one of the "
            "supported ones: default, linear, yarn, llama3");
  EXPECT_THAT(Error(R"({"rope_scaling":{"rope_type":"yarn"}})"),
              HasSubstr("factor: found nothing"));
  EXPECT_THAT(Error(R"({"rope_scaling":{"rope_type":"yarn","factor":-1}})"), HasSubstr("found -1"));
  EXPECT_THAT(Error(R"({"rope_scaling":7})"), HasSubstr("rope_scaling: found 7"));
  EXPECT_THAT(Error(R"({"architectures":["Qwen3MoeForCausalLM"]})"),
              HasSubstr("architectures: found [\"Qwen3MoeForCausalLM\"], expected one of the "
                        "supported ones: Qwen3ForCausalLM, Qwen2ForCausalLM, LlamaForCausalLM"));
  EXPECT_THAT(Error(R"({"architectures":null,"model_type":"gpt2"})"),
              HasSubstr("model_type: found \"gpt2\""));
  EXPECT_THAT(Error(R"({"hidden_size":null})"), HasSubstr("hidden_size: found nothing"));
  EXPECT_THAT(Error(R"({"hidden_size":"big"})"), HasSubstr("hidden_size: found \"big\""));
  EXPECT_THAT(Error(R"({"hidden_size":1e30})"), HasSubstr("hidden_size: found 1e+30"));
  EXPECT_THAT(Error(R"({"num_hidden_layers":0})"), HasSubstr("num_hidden_layers: found 0"));
  EXPECT_THAT(Error(R"({"num_hidden_layers":1.5})"), HasSubstr("num_hidden_layers: found 1.5"));
  EXPECT_THAT(Error(R"({"vocab_size":99999999999})"), HasSubstr("vocab_size: found 99999999999"));
  EXPECT_THAT(Error(R"({"num_key_value_heads":5})"), HasSubstr("a divisor of num_attention_heads"));
  EXPECT_THAT(Error(R"({"head_dim":63})"), HasSubstr("an even number"));
  EXPECT_THAT(Error(R"({"hidden_act":"gelu"})"), HasSubstr("hidden_act: found \"gelu\""));
  EXPECT_THAT(Error(R"({"eos_token_id":"x"})"), HasSubstr("eos_token_id: found \"x\""));
  EXPECT_THAT(Error(R"({"tie_word_embeddings":1})"), HasSubstr("expected true or false"));
  EXPECT_THAT(Error(R"({"use_sliding_window":true,"sliding_window":4096,"max_window_layers":0})"),
              HasSubstr("sliding-window attention is not supported"));
  EXPECT_THAT(Error(R"({"layer_types":["full_attention","sliding_attention"]})"),
              HasSubstr("layer_types: found [\"full_attention\",\"sliding_attention\"], expected a list of"));
  EXPECT_THAT(Error(R"({"layer_types":"full_attention"})"), HasSubstr("layer_types: found \"full_attention\", expected a list of"));
  EXPECT_THAT(Error(R"({"layer_types":["full_attention"]})"), HasSubstr("expected one for each of num_hidden_layers (28)"));
  EXPECT_EQ(Error(R"({"layer_types":["full_attention"],"num_hidden_layers":2})"), "no error");
  EXPECT_THAT(Error("", "<!DOCTYPE html><html>"), HasSubstr("this is an HTML page"));
  EXPECT_THAT(Error("", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 726\n"),
              HasSubstr("Git LFS pointer, not the file itself (expected 726 bytes)"));
  EXPECT_THAT(Error("", std::string(5 << 20, ' ')), HasSubstr("expected at most"));
  EXPECT_THAT(Error("", std::string(100000, '[')), HasSubstr("nested deeper than 32"));
}

TEST(ModelConfig, RanksShareHeadsEvenly) {
  ModelConfig config;
  config.num_heads = 64;
  config.num_kv_heads = 8;
  for (const int64_t size : {1, 2, 4, 8, 16, 32, 64}) {
    EXPECT_TRUE(CheckTensorParallelSize(config, size).ok()) << size;
  }
  for (const int64_t size : {0, 3, 5, 6, 128}) {
    EXPECT_EQ(CheckTensorParallelSize(config, size).message(),
              fmt::format("Total number of attention heads (64) must be divisible by tensor "
                          "parallel size ({}). This model can use: 1, 2, 4, 8, 16, 32, 64.",
                          size));
  }
  config.num_heads = 12;
  config.num_kv_heads = 2;
  EXPECT_EQ(CheckTensorParallelSize(config, 3).message(),
            "Total number of key/value heads (2) must be divisible by tensor parallel size (3). "
            "This model can use: 1, 2, 4, 6, 12.");
}

TEST(ModelConfig, ListsOfEos) {
  EXPECT_THAT(Parse(R"({"eos_token_id":[1,2]})")->eos_token_ids, ElementsAre(1, 2));
  EXPECT_THAT(Parse(R"({"eos_token_id":null})")->eos_token_ids, IsEmpty());
  EXPECT_THAT(Parse(R"({"eos_token_id":-1})")->eos_token_ids, IsEmpty());
}

TEST(GenerationConfig, Qwen3) {
  const auto g = ParseGenerationConfig(
      R"({"bos_token_id":151643,"do_sample":true,"eos_token_id":[151645,151643],
          "pad_token_id":151643,"temperature":0.6,"top_k":20,"top_p":0.95,"min_p":null})",
      "generation_config.json");
  ASSERT_TRUE(g) << g.error();
  EXPECT_EQ(g->temperature, 0.6);
  EXPECT_EQ(g->top_k, 20);
  EXPECT_EQ(g->top_p, 0.95);
  EXPECT_EQ(g->min_p, std::nullopt);
  EXPECT_EQ(g->max_new_tokens, std::nullopt);
  EXPECT_THAT(g->eos_token_ids, ElementsAre(151645, 151643));
}

TEST(GenerationConfig, NamesWhatIsWrong) {
  const auto g = ParseGenerationConfig(R"({"temperature":"hot"})", "dir/generation_config.json");
  ASSERT_FALSE(g);
  EXPECT_THAT(
      g.error().message(),
      HasSubstr("dir/generation_config.json: temperature: found \"hot\", expected a number"));
  EXPECT_FALSE(ParseGenerationConfig(R"({"top_p":1.5})", "g"));
  // What each request would be refused for.
  for (const char* zero : {"0", "0.0", "1e-60"}) {
    EXPECT_THAT(ParseGenerationConfig(fmt::format(R"({{"top_p":{}}})", zero), "g").error().message(),
                testing::AllOf(HasSubstr("g: top_p: found "), HasSubstr(", expected a number above 0, up to 1")));
  }
  EXPECT_FALSE(ParseGenerationConfig(R"({"temperature":2.5})", "g"));
  EXPECT_THAT(ParseGenerationConfig(R"({"top_p":1,"topk":3,"do_sample":true})", "g")->unread,
              ElementsAre("\"do_sample\"", "\"topk\""));
  EXPECT_FALSE(ParseGenerationConfig("", "g"));
}

// A value is copied, compared and shown by functions that call themselves.
TEST(ModelConfig, NestingIsBounded) {
  for (const auto& [open, close] : {std::pair("[", "]"), {"{\"a\":", "}"}}) {
    for (const char* field : {"eos_token_id", "rope_scaling", "hidden_size", "architectures", "other"}) {
      std::string text = fmt::format("{{\"{}\":", field);
      for (int i = 0; i < 200000; ++i) text += open;
      text += "1";
      for (int i = 0; i < 200000; ++i) text += close;
      const auto config = ParseModelConfig(text + "}", "", "config.json");
      ASSERT_FALSE(config);
      EXPECT_EQ(config.error().message(), "config.json: is nested deeper than 32 levels");
    }
  }
  EXPECT_TRUE(ParseGenerationConfig(R"({"a": "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[[[[[["})", "g"));
}

}  // namespace
}  // namespace tiercel::checkpoint
