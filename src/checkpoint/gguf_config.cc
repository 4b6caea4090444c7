#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "checkpoint/gguf_types.h"
#include "checkpoint/json_fields.h"

namespace tiercel::checkpoint {
namespace {

// Checked reading of the metadata: what is absent is nullopt, what is of another kind names file, key, found and expected.
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string path) : file_(file), path_(std::move(path)) {}

  Expected<std::optional<double>> Number(const std::string& key) const {
    std::optional<double> value = file_.Number(key);
    if (value && !std::isfinite(*value)) value.reset();
    return Checked(key, value, "a finite number");
  }
  Expected<std::optional<int64_t>> Int(const std::string& key) const { return Checked(key, file_.Int(key), "an integer"); }
  Expected<std::optional<bool>> Bool(const std::string& key) const { return Checked(key, file_.Bool(key), "true or false"); }
  Expected<std::optional<std::string>> Text(const std::string& key) const {
    return Checked(key, file_.String(key), "a string");
  }
  // Null where it is absent.
  Expected<const GgufArray*> Array(const std::string& key) const {
    const GgufArray* array = file_.Array(key);
    if (array == nullptr && file_.Has(key)) return Unexpected(Wrong(key, "a list"));
    return array;
  }
  Status Wrong(const std::string& key, const std::string& expected) const {
    return InvalidArgument("{}: {}: found {}, expected {}", path_, key, file_.Show(key), expected);
  }

  const GgufFile& file() const { return file_; }
  const std::string& path() const { return path_; }

 private:
  template <typename T>
  Expected<std::optional<T>> Checked(const std::string& key, std::optional<T> value, const char* expected) const {
    if (!value && file_.Has(key)) return Unexpected(Wrong(key, expected));
    return value;
  }

  const GgufFile& file_;
  const std::string path_;
};

// Writes the metadata of one architecture as the config.json that it was made from, so that one
// reader with one set of bounds serves both.
class ConfigWriter {
 public:
  ConfigWriter(const Metadata& metadata, std::string architecture)
      : metadata_(metadata), prefix_(std::move(architecture) + ".") {}

  // Absent keys are left out.
  Status Number(const std::string& key, const char* field) {
    ASSIGN_OR_RETURN(const std::optional<double> value, Get(key));
    if (value) config[field] = *value;
    return OkStatus();
  }

  // One number, or a list (a number for each layer) that holds one value only.
  Expected<std::optional<double>> Get(const std::string& key) const {
    const std::string full = prefix_ + key;
    const GgufArray* array = metadata_.file().Array(full);
    if (array == nullptr) return metadata_.Number(full);
    const auto values = GgufFile::Numbers(*array, kMaxLayers);
    if (!values || values->empty() || !std::all_of(values->begin(), values->end(), [](double v) { return std::isfinite(v); })) {
      return Unexpected(metadata_.Wrong(full, fmt::format("at most {} numbers", kMaxLayers)));
    }
    if (std::any_of(values->begin(), values->end(), [&](double v) { return v != values->front(); })) {
      return Unexpected(Unimplemented("{}: {}: found values that differ from layer to layer, expected one value",
                                      metadata_.path(), full));
    }
    return std::optional(values->front());
  }
  Expected<std::optional<std::string>> Text(const std::string& key) const { return metadata_.Text(prefix_ + key); }
  // "FILE: qwen3.rope.dimension_count", for messages.
  std::string Place(const std::string& key) const { return metadata_.path() + ": " + prefix_ + key; }

  Json config = Json::object();

 private:
  const Metadata& metadata_;
  std::string prefix_;
};

Status WriteSizes(const GgufFile& file, ConfigWriter& w) {
  RETURN_IF_ERROR(w.Number("embedding_length", "hidden_size"));
  RETURN_IF_ERROR(w.Number("block_count", "num_hidden_layers"));
  RETURN_IF_ERROR(w.Number("attention.head_count", "num_attention_heads"));
  RETURN_IF_ERROR(w.Number("attention.head_count_kv", "num_key_value_heads"));
  RETURN_IF_ERROR(w.Number("feed_forward_length", "intermediate_size"));
  RETURN_IF_ERROR(w.Number("context_length", "max_position_embeddings"));
  RETURN_IF_ERROR(w.Number("attention.layer_norm_rms_epsilon", "rms_norm_eps"));
  RETURN_IF_ERROR(w.Number("rope.freq_base", "rope_theta"));
  ASSIGN_OR_RETURN(const std::optional<double> hidden, w.Get("embedding_length"));
  ASSIGN_OR_RETURN(const std::optional<double> heads, w.Get("attention.head_count"));
  ASSIGN_OR_RETURN(const std::optional<double> length, w.Get("attention.key_length"));
  if (length) {
    w.config["head_dim"] = *length;
  } else if (hidden && heads && *heads > 0) {
    w.config["head_dim"] = std::floor(*hidden / *heads);
  }
  const auto embedding = file.tensors().find("token_embd.weight");
  if (embedding != file.tensors().end() && embedding->second.shape.size() == 2) {
    w.config["vocab_size"] = embedding->second.shape[0];
  }
  w.config["tie_word_embeddings"] = !file.tensors().contains("output.weight");
  return OkStatus();
}

Status CheckHeads(const ConfigWriter& w) {
  const Json& head_dim = w.config.value("head_dim", Json());
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    ASSIGN_OR_RETURN(const std::optional<double> value, w.Get(key));
    if (value && head_dim.is_number() && *value != head_dim.get<double>()) {
      return Unimplemented("{}: found {}, expected the head's size {}", w.Place(key), *value, head_dim.dump());
    }
  }
  ASSIGN_OR_RETURN(const std::optional<double> experts, w.Get("expert_count"));
  if (experts.value_or(0) > 0) {
    return Unimplemented("{}: found {}: a mixture of experts, which is not supported", w.Place("expert_count"), *experts);
  }
  return OkStatus();
}

// As llama.cpp reads it: without a type a factor is linear, also under its older name, and linear scaling without a factor
// (or by 0, "unknown") is none.
Status WriteRopeScaling(ConfigWriter& w) {
  ASSIGN_OR_RETURN(const std::optional<std::string> named, w.Text("rope.scaling.type"));
  ASSIGN_OR_RETURN(std::optional<double> factor, w.Get("rope.scaling.factor"));
  ASSIGN_OR_RETURN(const std::optional<double> older, w.Get("rope.scale_linear"));
  const std::string type = named.value_or("linear");
  if (!factor && type == "linear") factor = older.value_or(0);
  if (type == "none" || (type == "linear" && *factor == 0)) return OkStatus();
  Json scaling = {{"rope_type", type}};
  if (factor) scaling["factor"] = *factor;
  for (const auto& [key, field] : {std::pair{"rope.scaling.original_context_length", "original_max_position_embeddings"},
                                   {"rope.scaling.attn_factor", "attn_factor"},
                                   {"rope.scaling.yarn_beta_fast", "beta_fast"},
                                   {"rope.scaling.yarn_beta_slow", "beta_slow"}}) {
    ASSIGN_OR_RETURN(const std::optional<double> value, w.Get(key));
    if (value) scaling[field] = *value;
  }
  w.config["rope_scaling"] = std::move(scaling);
  return OkStatus();
}

// The divisors of the frequencies that Llama 3's scaling gives (transformers,
// _compute_llama3_parameters), with the only parameters ever published besides `factor`.
constexpr double kLlama3LowFactor = 1, kLlama3HighFactor = 4, kLlama3Context = 8192;

double Llama3Divisor(double theta, double exponent, double factor) {
  const double wavelength = 2 * std::numbers::pi * std::pow(theta, exponent);
  if (wavelength < kLlama3Context / kLlama3HighFactor) return 1;
  if (wavelength > kLlama3Context / kLlama3LowFactor) return factor;
  const double smooth =
      (kLlama3Context / wavelength - kLlama3LowFactor) / (kLlama3HighFactor - kLlama3LowFactor);
  return 1 / ((1 - smooth) / factor + smooth);
}

// Converted Llama 3 files hold the divisors as a tensor instead of the parameters that they were
// computed from: take the parameters back, and make sure that they are the ones.
Status ReadRopeFrequencies(const GgufFile& file, std::span<const uint8_t> data,
                           const std::string& path, Json& config) {
  const auto it = file.tensors().find("rope_freqs.weight");
  if (it == file.tensors().end()) return OkStatus();
  const GgufTensor& tensor = it->second;
  constexpr int64_t kMostPairs = 1 << 16;
  const int64_t pairs = tensor.shape.size() == 1 ? tensor.shape[0] : 0;
  const auto unsupported = [&] {
    return Unimplemented(
        "{}: rope_freqs.weight: found frequency factors that are not Llama 3's, "
        "which are not supported",
        path);
  };
  if (pairs == 0 || pairs > kMostPairs || config.contains("rope_scaling")) return unsupported();
  std::vector<float> divisors(static_cast<size_t>(pairs));
  Dequantize(static_cast<GgufTensorType>(tensor.type), data.data() + tensor.begin, pairs,
             divisors.data());
  const double factor = *std::max_element(divisors.begin(), divisors.end());
  const double theta = config.value("rope_theta", 10000.0);
  for (int64_t i = 0; i < pairs; ++i) {
    const double exponent = static_cast<double>(i) / static_cast<double>(pairs);
    const double expected = Llama3Divisor(theta, exponent, factor);
    if (!(std::abs(divisors[static_cast<size_t>(i)] - expected) <= 1e-3 * expected)) {
      return unsupported();
    }
  }
  if (factor > 1) {
    config["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", factor},
                              {"low_freq_factor", kLlama3LowFactor},
                              {"high_freq_factor", kLlama3HighFactor},
                              {"original_max_position_embeddings", kLlama3Context}};
  }
  return OkStatus();
}

// The end of the text, of a turn, and of a message (one that waits for a tool): each ends an answer.
constexpr const char* kEndKeys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                    "tokenizer.ggml.eom_token_id"};

// One of `tokens`; −1 counts as none.
Expected<std::optional<int64_t>> ReadTokenId(const Metadata& metadata, const char* key, int64_t tokens) {
  ASSIGN_OR_RETURN(const std::optional<int64_t> id, metadata.Int(key));
  if (!id || *id == -1) return std::optional<int64_t>();
  if (*id < 0 || *id >= tokens) {
    return Unexpected(metadata.Wrong(key, fmt::format("a token's id, less than {}", tokens)));
  }
  return id;
}

Status WriteTokenIds(const Metadata& metadata, Json& config) {
  const int64_t tokens = config.value("vocab_size", kMaxVocab);
  Json eos = Json::array();
  for (const char* key : kEndKeys) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> id, ReadTokenId(metadata, key, tokens));
    if (id && std::find(eos.begin(), eos.end(), *id) == eos.end()) eos.push_back(*id);
  }
  config["eos_token_id"] = std::move(eos);
  ASSIGN_OR_RETURN(const std::optional<int64_t> bos, ReadTokenId(metadata, "tokenizer.ggml.bos_token_id", tokens));
  if (bos) config["bos_token_id"] = *bos;
  return OkStatus();
}

// A list of the vocabulary; left empty where the file has none.
Status ReadStrings(const Metadata& metadata, const char* key, std::vector<std::string>& out) {
  ASSIGN_OR_RETURN(const GgufArray* array, metadata.Array(key));
  if (array == nullptr) return OkStatus();
  auto strings = GgufFile::Strings(*array, kMaxVocab);
  if (!strings) return metadata.Wrong(key, fmt::format("at most {} strings", kMaxVocab));
  out = std::move(*strings);
  return OkStatus();
}

// A number for each token; left empty where the file has none.
Status ReadPerToken(const Metadata& metadata, const char* key, size_t tokens, std::vector<double>& out) {
  ASSIGN_OR_RETURN(const GgufArray* array, metadata.Array(key));
  if (array == nullptr || array->count == 0) return OkStatus();
  auto numbers = GgufFile::Numbers(*array, tokens);
  if (!numbers || numbers->size() != tokens) {
    return metadata.Wrong(key, fmt::format("a number for each of {} tokens", tokens));
  }
  out = std::move(*numbers);
  return OkStatus();
}

// config.json's fields by the keys of an architecture, and by those of the whole file.
constexpr std::pair<std::string_view, std::string_view> kKeys[] = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"intermediate_size", "feed_forward_length"},
    {"max_position_embeddings", "context_length"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {"head_dim", "attention.key_length"},
    {"rope_theta", "rope.freq_base"},
    {"rope_scaling.rope_type", "rope.scaling.type"},
    {"rope_scaling.factor", "rope.scaling.factor"},
    {"rope_scaling.original_max_position_embeddings", "rope.scaling.original_context_length"},
    {"rope_scaling.attn_factor", "rope.scaling.attn_factor"},
    {"rope_scaling.beta_fast", "rope.scaling.yarn_beta_fast"},
    {"rope_scaling.beta_slow", "rope.scaling.yarn_beta_slow"}};
constexpr std::pair<std::string_view, std::string_view> kFileKeys[] = {
    {"architectures", "general.architecture"},
    {"vocab_size", "token_embd.weight"},
    {"tie_word_embeddings", "output.weight"},
    {"eos_token_id", "tokenizer.ggml.eos_token_id"},
    {"bos_token_id", "tokenizer.ggml.bos_token_id"}};

}  // namespace

std::string GgufKeyOf(std::string_view architecture, std::string_view field) {
  for (const auto& [name, key] : kKeys) {
    if (name == field) return fmt::format("{}.{}", architecture, key);
  }
  for (const auto& [name, key] : kFileKeys) {
    if (name == field) return std::string(key);
  }
  return std::string(field);
}

Expected<ModelConfig> GgufModelConfig(const GgufFile& file, std::span<const uint8_t> data,
                                      std::string_view hf_overrides, const std::string& path) {
  const Metadata metadata(file, path);
  const std::string architecture = file.String("general.architecture").value_or("");
  const char* hf_name = architecture == "qwen3"   ? "Qwen3ForCausalLM"
                        : architecture == "qwen2" ? "Qwen2ForCausalLM"
                        : architecture == "llama" ? "LlamaForCausalLM"
                                                  : nullptr;
  if (hf_name == nullptr) {
    return Unexpected(metadata.Wrong("general.architecture", "one of the supported ones: qwen3, qwen2, llama"));
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> parts, metadata.Int("split.count"));
  if (parts.value_or(1) > 1) {
    return Unexpected(
        Unimplemented("{}: is one of {} parts of a split GGUF; merge them with "
                      "llama-gguf-split --merge",
                      path, *parts));
  }
  ConfigWriter writer(metadata, architecture);
  RETURN_IF_ERROR(WriteSizes(file, writer));
  RETURN_IF_ERROR(CheckHeads(writer));
  RETURN_IF_ERROR(WriteRopeScaling(writer));
  RETURN_IF_ERROR(ReadRopeFrequencies(file, data, path, writer.config));
  RETURN_IF_ERROR(WriteTokenIds(metadata, writer.config));
  writer.config["architectures"] = {hf_name};
  const std::string json = writer.config.dump(-1, ' ', false, Json::error_handler_t::replace);
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(json, hf_overrides, path, [&](std::string_view field) {
                     return GgufKeyOf(architecture, field);
                   }));
  // GGUF has no fields for biases: the tensors themselves tell.
  config.qkv_bias = file.tensors().contains("blk.0.attn_q.bias");
  config.o_bias = file.tensors().contains("blk.0.attn_output.bias");
  config.mlp_bias = file.tensors().contains("blk.0.ffn_gate.bias");
  return config;
}

Expected<GgufTokenizerData> ReadGgufTokenizer(const GgufFile& file, const std::string& path) {
  const Metadata metadata(file, path);
  GgufTokenizerData data;
  ASSIGN_OR_RETURN(const GgufArray* tokens, metadata.Array("tokenizer.ggml.tokens"));
  if (tokens == nullptr) return data;
  RETURN_IF_ERROR(ReadStrings(metadata, "tokenizer.ggml.tokens", data.tokens));
  RETURN_IF_ERROR(ReadStrings(metadata, "tokenizer.ggml.merges", data.merges));
  for (const auto& [key, text] : {std::pair{"tokenizer.ggml.model", &data.model},
                                  {"tokenizer.ggml.pre", &data.pre},
                                  {"tokenizer.chat_template", &data.chat_template}}) {
    ASSIGN_OR_RETURN(const std::optional<std::string> value, metadata.Text(key));
    *text = value.value_or("");
  }
  // llama.cpp's rule: sentencepiece vocabularies add BOS where the file says nothing.
  ASSIGN_OR_RETURN(const std::optional<bool> add_bos, metadata.Bool("tokenizer.ggml.add_bos_token"));
  data.add_bos = add_bos.value_or(data.model == "llama");
  ASSIGN_OR_RETURN(const std::optional<bool> add_space, metadata.Bool("tokenizer.ggml.add_space_prefix"));
  data.add_space_prefix = add_space.value_or(true);
  std::vector<double> scores, types;
  RETURN_IF_ERROR(ReadPerToken(metadata, "tokenizer.ggml.scores", data.tokens.size(), scores));
  RETURN_IF_ERROR(ReadPerToken(metadata, "tokenizer.ggml.token_type", data.tokens.size(), types));
  for (const double score : scores) {
    constexpr double kMost = 1e30;  // NaN and what is beyond count as nothing
    data.scores.push_back(std::abs(score) <= kMost ? static_cast<float>(score) : 0.0f);
  }
  for (const double type : types) {
    data.token_types.push_back(type >= 0 && type <= 255 ? static_cast<int32_t>(type) : 0);
  }
  for (const auto& [key, id] : {std::pair{"tokenizer.ggml.bos_token_id", &data.bos},
                                {"tokenizer.ggml.eos_token_id", &data.eos},
                                {"tokenizer.ggml.unknown_token_id", &data.unknown},
                                {"tokenizer.ggml.padding_token_id", &data.padding}}) {
    // Unlike BOS and EOS, which have been checked, the others are harmless where they are no token.
    ASSIGN_OR_RETURN(const std::optional<int64_t> value, metadata.Int(key));
    *id = value && *value < std::ssize(data.tokens) ? std::max<int64_t>(*value, -1) : -1;
  }
  return data;
}

}  // namespace tiercel::checkpoint
