#include "model/config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "model/json_fields.h"
#include "model/rope_config.h"

namespace tiercel::model {
namespace {

constexpr size_t kMaxConfigBytes = size_t{4} << 20;

// As kMaxLayers and kMaxVocab.
constexpr int64_t kMaxHidden = 1 << 17;
constexpr int64_t kMaxHeads = 2048;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxIntermediate = 1 << 20;
constexpr int64_t kMaxPosition = 1 << 28;

struct Architecture {
  std::string_view name;
  std::string_view model_type;
  bool qk_norm;
  bool qkv_bias;             // always, whatever attention_bias says
  int64_t default_head_dim;  // 0: hidden_size / num_attention_heads
  int64_t default_max_position;
};

// The defaults are those of the Hugging Face configuration classes.
constexpr std::array<Architecture, 3> kArchitectures = {{
    {"Qwen3ForCausalLM", "qwen3", true, false, 128, 32768},
    {"Qwen2ForCausalLM", "qwen2", false, true, 0, 32768},
    {"LlamaForCausalLM", "llama", false, false, 0, 2048},
}};

std::string Supported() {
  std::string names;
  for (const Architecture& a : kArchitectures) {
    names += (names.empty() ? "" : ", ") + std::string(a.name);
  }
  return names;
}

Expected<Architecture> FindArchitecture(const JsonFields& fields) {
  const Json* names = fields.Get("architectures");
  if (names != nullptr && names->is_array()) {
    for (const Json& name : *names) {
      for (const Architecture& a : kArchitectures) {
        if (name.is_string() && name.get_ref<const std::string&>() == a.name) return a;
      }
    }
  } else if (names == nullptr) {
    std::string type;
    RETURN_IF_ERROR(fields.String("model_type", type));
    for (const Architecture& a : kArchitectures) {
      if (type == a.model_type) return a;
    }
    if (!type.empty()) {
      return Unexpected(fields.Wrong("model_type", "qwen3, qwen2 or llama"));
    }
  }
  return Unexpected(fields.Wrong("architectures", "one of the supported ones: " + Supported()));
}

Status ReadSizes(const JsonFields& f, const Architecture& a, ModelConfig& c) {
  RETURN_IF_ERROR(f.RequiredInt("hidden_size", 1, kMaxHidden, c.hidden_size));
  RETURN_IF_ERROR(f.RequiredInt("num_hidden_layers", 1, kMaxLayers, c.num_layers));
  RETURN_IF_ERROR(f.RequiredInt("num_attention_heads", 1, kMaxHeads, c.num_heads));
  RETURN_IF_ERROR(f.RequiredInt("intermediate_size", 1, kMaxIntermediate, c.intermediate_size));
  RETURN_IF_ERROR(f.RequiredInt("vocab_size", 1, kMaxVocab, c.vocab_size));
  c.num_kv_heads = c.num_heads;
  RETURN_IF_ERROR(f.Int("num_key_value_heads", 1, kMaxHeads, c.num_kv_heads));
  if (c.num_heads % c.num_kv_heads != 0) {
    return f.Wrong("num_key_value_heads",
                   fmt::format("a divisor of num_attention_heads ({})", c.num_heads));
  }
  c.head_dim = a.default_head_dim;
  RETURN_IF_ERROR(f.Int("head_dim", 2, kMaxHeadDim, c.head_dim));
  if (c.head_dim == 0) {
    c.head_dim = c.hidden_size / c.num_heads;
    if (c.hidden_size % c.num_heads != 0 || c.head_dim < 2 || c.head_dim > kMaxHeadDim) {
      return f.Wrong("hidden_size",
                     fmt::format("a multiple of num_attention_heads ({}), since there is no "
                                 "head_dim",
                                 c.num_heads));
    }
  }
  if (c.head_dim % 2 != 0) {
    return f.Wrong("head_dim",
                   fmt::format("an even number, not {}: rotary embedding pairs it", c.head_dim));
  }
  c.max_position_embeddings = a.default_max_position;
  return f.Int("max_position_embeddings", 1, kMaxPosition, c.max_position_embeddings);
}

Status ReadSwitches(const JsonFields& f, const Architecture& a, ModelConfig& c) {
  c.qk_norm = a.qk_norm;
  bool attention_bias = false;
  RETURN_IF_ERROR(f.Bool("attention_bias", attention_bias));
  c.qkv_bias = a.qkv_bias || attention_bias;
  c.o_bias = attention_bias && !a.qkv_bias;  // Qwen2 knows no such field
  RETURN_IF_ERROR(f.Bool("mlp_bias", c.mlp_bias));
  RETURN_IF_ERROR(f.Bool("tie_word_embeddings", c.tie_word_embeddings));
  double eps = 1e-6;
  RETURN_IF_ERROR(f.Double("rms_norm_eps", 0, 1, eps));
  c.rms_norm_eps = static_cast<float>(eps);
  std::string activation = "silu";
  RETURN_IF_ERROR(f.String("hidden_act", activation));
  if (activation != "silu" && activation != "swish") return f.Wrong("hidden_act", "\"silu\"");
  return OkStatus();
}

// What would change the arithmetic without being implemented must not pass in silence.
Status RefuseUnsupported(const JsonFields& f, const ModelConfig& c) {
  if (const Json* types = f.Get("layer_types"); types != nullptr && types->is_array()) {
    for (const Json& type : *types) {
      if (type != "full_attention") {
        return f.Wrong("layer_types", "only \"full_attention\"");
      }
    }
    return OkStatus();
  }
  // Without layer_types the layers from max_window_layers on have a sliding window.
  bool sliding = false;
  int64_t first_sliding = 0;
  RETURN_IF_ERROR(f.Bool("use_sliding_window", sliding));
  RETURN_IF_ERROR(f.Int("max_window_layers", 0, kMaxHidden, first_sliding));
  if (sliding && f.Has("sliding_window") && first_sliding < c.num_layers) {
    return f.Wrong("use_sliding_window", "false: sliding-window attention is not supported");
  }
  return OkStatus();
}

Status ReadDType(const JsonFields& f, ModelConfig& c) {
  const char* key = f.Has("dtype") ? "dtype" : "torch_dtype";
  std::string name = "bfloat16";
  RETURN_IF_ERROR(f.String(key, name));
  if (name.starts_with("torch.")) name.erase(0, 6);
  if (name == "bfloat16") {
    c.dtype = DType::kBF16;
  } else if (name == "float16" || name == "half") {
    c.dtype = DType::kF16;
  } else if (name == "float32" || name == "float") {
    c.dtype = DType::kF32;
  } else {
    return f.Wrong(key, "\"bfloat16\", \"float16\" or \"float32\"");
  }
  return OkStatus();
}

}  // namespace

int64_t ModelConfig::DerivedMaxModelLen() const {
  double length = static_cast<double>(max_position_embeddings);
  switch (rope.type) {
    case RopeType::kDefault:
    case RopeType::kLlama3:  // max_position_embeddings already counts the extended length
      break;
    case RopeType::kLinear:
      length *= rope.factor;
      break;
    case RopeType::kYarn:
      length = static_cast<double>(rope.original_max_position_embeddings) * rope.factor;
      break;
  }
  return static_cast<int64_t>(std::clamp(length, 1.0, static_cast<double>(kMaxPosition)));
}

Expected<ModelConfig> ParseModelConfig(std::string_view json, std::string_view hf_overrides,
                                       const std::string& path) {
  ASSIGN_OR_RETURN(Json root, ParseJsonObject(json, path, kMaxConfigBytes));
  if (!hf_overrides.empty()) {
    ASSIGN_OR_RETURN(Json overrides,
                     ParseJsonObject(hf_overrides, "--hf-overrides", kMaxConfigBytes));
    MergeOverrides(std::move(overrides), root);
  }
  const JsonFields fields(root, path);
  ASSIGN_OR_RETURN(const Architecture architecture, FindArchitecture(fields));
  ModelConfig config;
  config.architecture = architecture.name;
  RETURN_IF_ERROR(ReadSizes(fields, architecture, config));
  RETURN_IF_ERROR(ReadSwitches(fields, architecture, config));
  RETURN_IF_ERROR(RefuseUnsupported(fields, config));
  RETURN_IF_ERROR(ReadDType(fields, config));
  ASSIGN_OR_RETURN(config.rope, ParseRopeConfig(root, path, config.max_position_embeddings));
  RETURN_IF_ERROR(fields.TokenIds("eos_token_id", config.eos_token_ids));
  std::vector<int32_t> bos;
  RETURN_IF_ERROR(fields.TokenIds("bos_token_id", bos));
  if (!bos.empty()) config.bos_token_id = bos.front();
  return config;
}

Expected<GenerationConfig> ParseGenerationConfig(std::string_view json, const std::string& path) {
  ASSIGN_OR_RETURN(const Json root, ParseJsonObject(json, path, kMaxConfigBytes));
  const JsonFields f(root, path);
  constexpr int64_t kMaxInt = INT32_MAX;
  GenerationConfig c;
  RETURN_IF_ERROR(f.Optional("temperature", 0.0, 1e6, c.temperature));
  RETURN_IF_ERROR(f.Optional("top_p", 0.0, 1.0, c.top_p));
  RETURN_IF_ERROR(f.Optional("min_p", 0.0, 1.0, c.min_p));
  RETURN_IF_ERROR(f.Optional("repetition_penalty", 1e-6, 1e6, c.repetition_penalty));
  RETURN_IF_ERROR(f.Optional("presence_penalty", -2.0, 2.0, c.presence_penalty));
  RETURN_IF_ERROR(f.Optional("frequency_penalty", -2.0, 2.0, c.frequency_penalty));
  RETURN_IF_ERROR(f.Optional<int64_t>("top_k", -1, kMaxInt, c.top_k));
  RETURN_IF_ERROR(f.Optional<int64_t>("max_new_tokens", 1, kMaxInt, c.max_new_tokens));
  RETURN_IF_ERROR(f.TokenIds("eos_token_id", c.eos_token_ids));
  return c;
}

Status CheckTensorParallelSize(const ModelConfig& config, int64_t size) {
  const int64_t heads = config.num_heads;
  const int64_t kv_heads = config.num_kv_heads;
  const auto kv_fits = [kv_heads](int64_t ranks) {
    return kv_heads % ranks == 0 || ranks % kv_heads == 0;
  };
  std::string allowed;
  for (int64_t ranks = 1; ranks <= heads; ++ranks) {
    if (heads % ranks != 0 || !kv_fits(ranks)) continue;
    allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", ranks);
  }
  const auto refuse = [&](std::string_view what, int64_t count) {
    return InvalidArgument(
               "Total number of {} heads ({}) must be divisible by tensor parallel size ({}). This "
               "model can use: {}.",
               what, count, size, allowed)
        .WithParam("tensor_parallel_size");
  };
  if (size < 1 || heads % size != 0) return refuse("attention", heads);
  if (!kv_fits(size)) return refuse("key/value", kv_heads);
  return OkStatus();
}

}  // namespace tiercel::model
