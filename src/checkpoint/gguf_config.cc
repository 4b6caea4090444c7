#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "checkpoint/gguf_types.h"
#include "checkpoint/json_fields.h"

namespace tiercel::checkpoint {
namespace {

// Writes the metadata of one architecture as the config.json that it was made from, so that one
// reader with one set of bounds serves both.
class ConfigWriter {
 public:
  ConfigWriter(const GgufFile& file, std::string architecture)
      : file_(file), prefix_(std::move(architecture) + ".") {}

  // Absent keys are left out; an array (one value for each layer) must hold one value only.
  Status Number(const std::string& key, const char* field) {
    const std::string full = prefix_ + key;
    if (const GgufArray* array = file_.Array(full)) {
      const auto values = GgufFile::Numbers(*array, kMaxLayers);
      if (!values || values->empty()) {
        return InvalidArgument("{}: found a list of {}, expected at most {} numbers", full,
                               array->count, kMaxLayers);
      }
      if (std::any_of(values->begin(), values->end(),
                      [&](double v) { return v != values->front(); })) {
        return Unimplemented("{}: found values that differ from layer to layer, expected one value",
                             full);
      }
      config[field] = values->front();
    } else if (const std::optional<double> value = file_.Number(full)) {
      config[field] = *value;
    }
    return OkStatus();
  }

  std::optional<double> Get(const std::string& key) const { return file_.Number(prefix_ + key); }
  std::optional<std::string> Text(const std::string& key) const {
    return file_.String(prefix_ + key);
  }

  Json config = Json::object();

 private:
  const GgufFile& file_;
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
  const std::optional<double> hidden = w.Get("embedding_length");
  const std::optional<double> heads = w.Get("attention.head_count");
  if (const std::optional<double> length = w.Get("attention.key_length")) {
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

Status CheckHeads(const ConfigWriter& w, const std::string& path) {
  const Json& head_dim = w.config.value("head_dim", Json());
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    const std::optional<double> value = w.Get(key);
    if (value && head_dim.is_number() && *value != head_dim.get<double>()) {
      return Unimplemented("{}: {}: found {}, expected the head's size {}", path, key, *value,
                           head_dim.dump());
    }
  }
  if (w.Get("expert_count").value_or(0) > 0) {
    return Unimplemented("{}: found a mixture of experts, which is not supported", path);
  }
  return OkStatus();
}

// As llama.cpp reads it: without a type a factor is linear, also under its older name, and linear scaling without a factor
// (or by 0, "unknown") is none.
void WriteRopeScaling(ConfigWriter& w) {
  const std::string type = w.Text("rope.scaling.type").value_or("linear");
  if (type == "none") return;
  Json scaling = {{"rope_type", type}};
  if (type == "linear") {
    const double factor = w.Get("rope.scaling.factor").value_or(w.Get("rope.scale_linear").value_or(0));
    if (factor == 0) return;
    scaling["factor"] = factor;
  }
  const auto copy = [&](const char* key, const char* field) {
    if (const std::optional<double> value = w.Get(key)) scaling[field] = *value;
  };
  copy("rope.scaling.factor", "factor");
  copy("rope.scaling.original_context_length", "original_max_position_embeddings");
  copy("rope.scaling.attn_factor", "attn_factor");
  copy("rope.scaling.yarn_beta_fast", "beta_fast");
  copy("rope.scaling.yarn_beta_slow", "beta_slow");
  w.config["rope_scaling"] = std::move(scaling);
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

constexpr int64_t kMaxTokenId = INT32_MAX;

// The end of the text, of a turn, and of a message (one that waits for a tool): each ends an answer.
constexpr const char* kEndKeys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                    "tokenizer.ggml.eom_token_id"};

void WriteTokenIds(const GgufFile& file, Json& config) {
  Json eos = Json::array();
  for (const char* key : kEndKeys) {
    const std::optional<int64_t> id = file.Int(key);
    const bool known = id && std::find(eos.begin(), eos.end(), *id) != eos.end();
    if (id && *id >= 0 && *id <= kMaxTokenId && !known) eos.push_back(*id);
  }
  config["eos_token_id"] = std::move(eos);
  const std::optional<int64_t> bos = file.Int("tokenizer.ggml.bos_token_id");
  if (bos && *bos >= 0 && *bos <= kMaxTokenId) config["bos_token_id"] = *bos;
}

// A list of the vocabulary; left empty where the file has none.
Status ReadStrings(const GgufFile& file, const char* key, const std::string& path,
                   std::vector<std::string>& out) {
  const GgufArray* array = file.Array(key);
  if (array == nullptr) return OkStatus();
  auto strings = GgufFile::Strings(*array, kMaxVocab);
  if (!strings) {
    return InvalidArgument("{}: {}: found a list of {}, expected at most {} strings", path, key,
                           array->count, kMaxVocab);
  }
  out = std::move(*strings);
  return OkStatus();
}

// A number for each token; left empty where the file has none.
Status ReadPerToken(const GgufFile& file, const char* key, const std::string& path, size_t tokens,
                    std::vector<double>& out) {
  const GgufArray* array = file.Array(key);
  if (array == nullptr || array->count == 0) return OkStatus();
  auto numbers = GgufFile::Numbers(*array, tokens);
  if (!numbers || numbers->size() != tokens) {
    return InvalidArgument("{}: {}: found a list of {}, expected a number for each of {} tokens",
                           path, key, array->count, tokens);
  }
  out = std::move(*numbers);
  return OkStatus();
}

}  // namespace

Expected<ModelConfig> GgufModelConfig(const GgufFile& file, std::span<const uint8_t> data,
                                      std::string_view hf_overrides, const std::string& path) {
  const std::string architecture = file.String("general.architecture").value_or("");
  const char* hf_name = architecture == "qwen3"   ? "Qwen3ForCausalLM"
                        : architecture == "qwen2" ? "Qwen2ForCausalLM"
                        : architecture == "llama" ? "LlamaForCausalLM"
                                                  : nullptr;
  if (hf_name == nullptr) {
    return Unexpected(
        InvalidArgument("{}: general.architecture: found \"{}\", expected one of the "
                        "supported ones: qwen3, qwen2, llama",
                        path, architecture.substr(0, 60)));
  }
  if (file.Int("split.count").value_or(1) > 1) {
    return Unexpected(
        Unimplemented("{}: is one of {} parts of a split GGUF; merge them with "
                      "llama-gguf-split --merge",
                      path, *file.Int("split.count")));
  }
  ConfigWriter writer(file, architecture);
  if (const Status status = WriteSizes(file, writer); !status.ok()) {
    return Unexpected(Status(status.code(), path + ": " + status.message()));
  }
  RETURN_IF_ERROR(CheckHeads(writer, path));
  WriteRopeScaling(writer);
  RETURN_IF_ERROR(ReadRopeFrequencies(file, data, path, writer.config));
  WriteTokenIds(file, writer.config);
  writer.config["architectures"] = {hf_name};
  const std::string json = writer.config.dump(-1, ' ', false, Json::error_handler_t::replace);
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(json, hf_overrides, path));
  // GGUF has no fields for biases: the tensors themselves tell.
  config.qkv_bias = file.tensors().contains("blk.0.attn_q.bias");
  config.o_bias = file.tensors().contains("blk.0.attn_output.bias");
  config.mlp_bias = file.tensors().contains("blk.0.ffn_gate.bias");
  return config;
}

Expected<GgufTokenizerData> ReadGgufTokenizer(const GgufFile& file, const std::string& path) {
  GgufTokenizerData data;
  if (file.Array("tokenizer.ggml.tokens") == nullptr) return data;
  RETURN_IF_ERROR(ReadStrings(file, "tokenizer.ggml.tokens", path, data.tokens));
  RETURN_IF_ERROR(ReadStrings(file, "tokenizer.ggml.merges", path, data.merges));
  data.model = file.String("tokenizer.ggml.model").value_or("");
  data.pre = file.String("tokenizer.ggml.pre").value_or("");
  data.chat_template = file.String("tokenizer.chat_template").value_or("");
  // llama.cpp's rule: sentencepiece vocabularies add BOS where the file says nothing.
  data.add_bos = file.Bool("tokenizer.ggml.add_bos_token").value_or(data.model == "llama");
  data.add_space_prefix = file.Bool("tokenizer.ggml.add_space_prefix").value_or(true);
  std::vector<double> scores, types;
  RETURN_IF_ERROR(ReadPerToken(file, "tokenizer.ggml.scores", path, data.tokens.size(), scores));
  RETURN_IF_ERROR(ReadPerToken(file, "tokenizer.ggml.token_type", path, data.tokens.size(), types));
  for (const double score : scores) {
    constexpr double kMost = 1e30;  // NaN and what is beyond count as nothing
    data.scores.push_back(std::abs(score) <= kMost ? static_cast<float>(score) : 0.0f);
  }
  for (const double type : types) {
    data.token_types.push_back(type >= 0 && type <= 255 ? static_cast<int32_t>(type) : 0);
  }
  const auto id = [&](const char* key) {
    const int64_t value = file.Int(key).value_or(-1);
    return value < static_cast<int64_t>(data.tokens.size()) ? std::max<int64_t>(value, -1) : -1;
  };
  data.bos = id("tokenizer.ggml.bos_token_id");
  data.eos = id("tokenizer.ggml.eos_token_id");
  data.unknown = id("tokenizer.ggml.unknown_token_id");
  data.padding = id("tokenizer.ggml.padding_token_id");
  return data;
}

}  // namespace tiercel::checkpoint
