#include "checkpoint/config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/log.h"
#include "checkpoint/field_places.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/rope_config.h"

namespace tiercel::checkpoint {
namespace {

constexpr std::string_view kClassificationEnd = "ForSequenceClassification";

// As kMaxLayers and kMaxVocab.
constexpr int64_t kMaxHidden = 1 << 17;
constexpr int64_t kMaxHeads = 2048;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxIntermediate = 1 << 20;

constexpr int64_t kMaxLabels = 4096;

struct Architecture {
  std::string_view name;  // without what it ends with, see kEnds
  std::string_view model_type;
  bool qk_norm;
  bool qkv_bias;             // always, whatever attention_bias says
  int64_t default_head_dim;  // 0: hidden_size / num_attention_heads
  int64_t default_max_position;
};

// The defaults are those of the Hugging Face configuration classes.
constexpr std::array<Architecture, 3> kArchitectures = {{
    {"Qwen3", "qwen3", true, false, 128, 32768},
    {"Qwen2", "qwen2", false, true, 0, 32768},
    {"Llama", "llama", false, false, 0, 2048},
}};

// What the network is for: tokens, labels, or vectors (the bare network).
constexpr std::string_view kEnds[] = {"ForCausalLM", kClassificationEnd, "Model"};

std::string Supported() {
  std::string names;
  for (const Architecture& a : kArchitectures) {
    names += fmt::format("{}{}{}", names.empty() ? "" : ", ", a.name, kEnds[0]);
  }
  return fmt::format("{}, or with {} or {} for {}", names, kEnds[1], kEnds[2], kEnds[0]);
}

// Its name in full.
struct NamedArchitecture {
  Architecture architecture;
  std::string name;
};

Expected<NamedArchitecture> FindArchitecture(const JsonFields& fields) {
  const Json* names = fields.Get("architectures");
  if (names != nullptr && names->is_array()) {
    for (const Json& name : *names) {
      if (!name.is_string()) continue;
      for (const Architecture& a : kArchitectures) {
        for (const std::string_view end : kEnds) {
          std::string full = fmt::format("{}{}", a.name, end);
          if (name.get_ref<const std::string&>() == full) return NamedArchitecture{a, std::move(full)};
        }
      }
    }
  } else if (names == nullptr) {
    std::string type;
    RETURN_IF_ERROR(fields.String("model_type", type));
    for (const Architecture& a : kArchitectures) {
      if (type == a.model_type) return NamedArchitecture{a, fmt::format("{}{}", a.name, kEnds[0])};
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
  if (const Json* types = f.Get("layer_types"); types != nullptr) {
    const auto is_other = [](const Json& type) { return type != "full_attention"; };
    if (!types->is_array() || std::any_of(types->begin(), types->end(), is_other)) {
      return f.Wrong("layer_types", "a list of \"full_attention\" alone");
    }
    // Who tries another number of layers by the flag need not write the list anew.
    const bool is_tried = std::find(c.overridden.begin(), c.overridden.end(), "num_hidden_layers") != c.overridden.end();
    if (std::ssize(*types) < c.num_layers && !is_tried) {
      return f.Wrong("layer_types", fmt::format("one for each of num_hidden_layers ({})", c.num_layers));
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

// The labels by number, of {"0": "name", …}.
Status ReadLabels(const JsonFields& f, PoolingConfig& p) {
  const Json* names = f.Get("id2label");
  if (names == nullptr) return OkStatus();
  if (!names->is_object() || std::ssize(*names) > kMaxLabels) {
    return f.Wrong("id2label", fmt::format("an object of at most {} names", kMaxLabels));
  }
  p.num_labels = std::ssize(*names);
  p.labels.assign(names->size(), "");
  for (const auto& [number, name] : names->items()) {
    size_t index = p.labels.size();
    std::from_chars(number.data(), number.data() + number.size(), index);
    if (index >= p.labels.size() || !name.is_string()) {
      return f.Wrong("id2label", "the numbers from 0 on, each with a name");
    }
    p.labels[index] = name.get<std::string>();
  }
  return OkStatus();
}

Status ReadClassifier(const JsonFields& f, PoolingConfig& p) {
  p.num_labels = 2;  // Hugging Face's default
  RETURN_IF_ERROR(ReadLabels(f, p));
  if (const Json* tokens = f.Get("classifier_from_token"); tokens != nullptr) {
    const auto is_text = [](const Json& token) { return token.is_string(); };
    if (!tokens->is_array() || tokens->empty() || std::ssize(*tokens) > kMaxLabels ||
        !std::all_of(tokens->begin(), tokens->end(), is_text)) {
      return f.Wrong("classifier_from_token", "a list of tokens");
    }
    p.classifier_from_token = tokens->get<std::vector<std::string>>();
    const auto count = std::ssize(p.classifier_from_token);
    p.num_labels = count == 2 ? 1 : count;
  }
  // A field of its own only where it differs from the names' number.
  RETURN_IF_ERROR(f.Int("num_labels", 1, kMaxLabels, p.num_labels));
  const auto tokens = std::ssize(p.classifier_from_token);
  if (tokens > 0 && p.num_labels != tokens && !(tokens == 2 && p.num_labels == 1)) {
    return f.Wrong("num_labels", fmt::format("as many as classifier_from_token has tokens ({})", tokens));
  }
  p.labels.resize(static_cast<size_t>(p.num_labels));
  std::string problem;
  RETURN_IF_ERROR(f.String("problem_type", problem));
  p.regression = problem == "regression";
  p.multi_label = problem == "multi_label_classification";
  return OkStatus();
}

Status ReadPooling(const JsonFields& f, ModelConfig& c) {
  PoolingConfig& p = c.pooling;
  if (c.architecture.ends_with(kClassificationEnd)) RETURN_IF_ERROR(ReadClassifier(f, p));
  RETURN_IF_ERROR(f.Bool("is_matryoshka", p.is_matryoshka));
  const Json* dimensions = f.Get("matryoshka_dimensions");
  if (dimensions == nullptr) return OkStatus();
  p.is_matryoshka = true;
  const auto is_size = [&](const Json& d) {
    return d.is_number_integer() && d >= 1 && d <= c.hidden_size;
  };
  if (!dimensions->is_array() || std::ssize(*dimensions) > kMaxLabels ||
      !std::all_of(dimensions->begin(), dimensions->end(), is_size)) {
    return f.Wrong("matryoshka_dimensions",
                   fmt::format("a list of numbers from 1 to hidden_size ({})", c.hidden_size));
  }
  p.matryoshka_dimensions = dimensions->get<std::vector<int64_t>>();
  return OkStatus();
}

// Of the fields that a configuration may lack: by the readers of rotary embeddings and of
// quantization, or said by the other fields.
bool IsReadElsewhere(std::string_view key) {
  constexpr std::string_view kKeys[] = {
      "rope_scaling",        "rope_parameters",    "rope_theta", "partial_rotary_factor",
      "quantization_config", "compression_config", "is_original_qwen3_reranker"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
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
                                       const std::string& path, const OwnNames& names) {
  ASSIGN_OR_RETURN(Json root, ParseJsonObject(json, path, kMaxConfigBytes));
  ModelConfig config;
  std::vector<std::string> added;  // by the overrides, at the top
  Json overrides = Json::object();
  if (!hf_overrides.empty()) {
    ASSIGN_OR_RETURN(overrides, ParseJsonObject(hf_overrides, "--hf-overrides", kMaxConfigBytes));
    for (const auto& [key, value] : overrides.items()) {
      if (!root.contains(key)) added.push_back(key);
      config.overridden.push_back(key);
    }
  }
  const FieldPlaces places(path, root, overrides, names);
  MergeOverrides(std::move(overrides), root);
  const JsonFields fields = FieldsOf(root, places, "");
  ASSIGN_OR_RETURN(NamedArchitecture found, FindArchitecture(fields));
  const Architecture& architecture = found.architecture;
  config.architecture = std::move(found.name);
  RETURN_IF_ERROR(ReadSizes(fields, architecture, config));
  RETURN_IF_ERROR(ReadSwitches(fields, architecture, config));
  RETURN_IF_ERROR(RefuseUnsupported(fields, config));
  RETURN_IF_ERROR(ReadDType(fields, config));
  RETURN_IF_ERROR(ReadPooling(fields, config));
  ASSIGN_OR_RETURN(config.rope, ParseRopeConfig(root, places, config.max_position_embeddings));
  RETURN_IF_ERROR(fields.TokenIds("eos_token_id", config.eos_token_ids));
  std::vector<int32_t> bos;
  RETURN_IF_ERROR(fields.TokenIds("bos_token_id", bos));
  if (!bos.empty()) config.bos_token_id = bos.front();
  for (const std::string& key : added) {
    if (fields.WasAskedFor(key) || IsReadElsewhere(key)) continue;
    LOG_WARNING("--hf-overrides: unknown key {}: {} does not have it, and nothing reads it",
                ShowJson(key), path);
  }
  return config;
}

Expected<GenerationConfig> ParseGenerationConfig(std::string_view json, const std::string& path) {
  ASSIGN_OR_RETURN(const Json root, ParseJsonObject(json, path, kMaxConfigBytes));
  const JsonFields f(root, path);
  constexpr int64_t kMaxInt = INT32_MAX;
  GenerationConfig c;
  // As requests may ask for: what is beyond would be refused with each of them.
  RETURN_IF_ERROR(f.Optional("temperature", 0.0, 2.0, c.temperature));
  RETURN_IF_ERROR(f.Optional("top_p", 0.0, 1.0, c.top_p));
  if (c.top_p && !(static_cast<float>(*c.top_p) > 0)) return Unexpected(f.Wrong("top_p", "a number above 0, up to 1"));
  RETURN_IF_ERROR(f.Optional("min_p", 0.0, 1.0, c.min_p));
  RETURN_IF_ERROR(f.Optional("repetition_penalty", 1e-6, 1e6, c.repetition_penalty));
  RETURN_IF_ERROR(f.Optional("presence_penalty", -2.0, 2.0, c.presence_penalty));
  RETURN_IF_ERROR(f.Optional("frequency_penalty", -2.0, 2.0, c.frequency_penalty));
  RETURN_IF_ERROR(f.Optional<int64_t>("top_k", -1, kMaxInt, c.top_k));
  RETURN_IF_ERROR(f.Optional<int64_t>("max_new_tokens", 1, kMaxInt, c.max_new_tokens));
  RETURN_IF_ERROR(f.TokenIds("eos_token_id", c.eos_token_ids));
  for (const auto& [key, value] : root.items()) {
    if (!f.WasAskedFor(key)) c.unread.push_back(ShowJson(key));
  }
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

}  // namespace tiercel::checkpoint
