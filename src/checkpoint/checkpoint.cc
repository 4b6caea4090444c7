#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>

#include "checkpoint/ascend_int4_checkpoint.h"
#include "checkpoint/fp8_checkpoint.h"
#include "checkpoint/fp8_config.h"
#include "checkpoint/gguf.h"
#include "checkpoint/int4_checkpoint.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/safetensors.h"

namespace tiercel::checkpoint {
namespace {

namespace fs = std::filesystem;

// A tensor that the configuration does not ask for would be left out in silence, and the model
// would answer nonsense.
Status CheckUnexpected(const Checkpoint& checkpoint, const std::string& folder) {
  const ModelConfig& c = checkpoint.config();
  // The Ascend quantizer adds biases to linears and norms; what it adds is read (model/weights.cc).
  if (checkpoint.quantization().method() == QuantMethod::kAscend) return OkStatus();
  struct {
    const char* tensor;
    bool expected;
    const char* reason;
  } const kOptional[] = {
      {"self_attn.q_proj.bias", c.qkv_bias, "attention_bias"},
      {"self_attn.o_proj.bias", c.o_bias, "attention_bias"},
      {"mlp.gate_proj.bias", c.mlp_bias, "mlp_bias"},
      {"self_attn.q_norm.weight", c.qk_norm, "architectures"},
      {"input_layernorm.bias", false, "architectures"},
  };
  for (const auto& optional : kOptional) {
    const std::string name = std::string("model.layers.0.") + optional.tensor;
    if (!optional.expected && checkpoint.Find(name)) {
      return InvalidArgument("{}: found tensor \"{}\", expected none by {} in config.json ({})",
                             folder, name, optional.reason, c.architecture);
    }
  }
  return OkStatus();
}

// Every tensor of the model that the description names must be there: files of different versions
// are not mixed in silence.
Status CheckDescription(const Checkpoint& checkpoint) {
  const Quantization& quantization = checkpoint.quantization();
  for (const std::string& name : quantization.TensorNames()) {
    if (checkpoint.Find(name)) continue;
    // What no forward pass reads may be left out of the weights.
    if (!name.starts_with("model.") && !name.starts_with("lm_head.")) continue;
    if (name.find("rotary_emb.") != std::string::npos) continue;
    if (checkpoint.config().tie_word_embeddings && name.starts_with("lm_head.")) continue;
    return InvalidArgument("{}: names tensor \"{}\", which is in none of the model's files; the file "
                           "belongs to other weights, or a download is incomplete",
                           quantization.path(), name);
  }
  return OkStatus();
}

// What is described as INT8 and is all float would be served as it is stored, without a word.
Status CheckSomeInt8(const Checkpoint& checkpoint, const std::string& folder) {
  if (checkpoint.quantization().method() != QuantMethod::kCompressedTensors) return OkStatus();
  for (const std::string& name : checkpoint.Names()) {
    if (name.ends_with("_proj.weight") && checkpoint.Find(name)->type == "I8") return OkStatus();
  }
  return InvalidArgument("{}: the weights' files hold no linear in INT8 (I8), which quantization_config in config.json says they "
                         "are in; a file belongs to another model", folder);
}

// Other formats keep their weights under names, or in types, of their own.
Status RefuseOtherFormats(const Checkpoint& checkpoint, const std::string& folder) {
  const std::string linear = "model.layers.0.self_attn.q_proj";
  const std::optional<TensorInfo> weight = checkpoint.Find(linear + ".weight");
  const char* found = nullptr;
  if (checkpoint.Find(linear + ".qweight")) {
    found = checkpoint.Find(linear + ".g_idx") ? "GPTQ" : "GPTQ or AWQ";
  } else if (checkpoint.Find(linear + ".weight_packed")) {
    found = "packed compressed-tensors (INT4)";
  } else if (weight && weight->type.starts_with("F8_")) {
    found = "FP8";
  }
  if (found == nullptr) return OkStatus();
  return Unimplemented("{}: holds {} weights, which are not supported: float checkpoints, those of the "
                       "Ascend quantizer, compressed-tensors, GPTQ, AWQ and FP8 are read where config.json says what they are",
                       folder, found);
}

Expected<std::unique_ptr<Checkpoint>> OpenSafetensorsFolder(const std::string& folder,
                                                            std::string_view hf_overrides,
                                                            const std::string& flag) {
  const std::string config_path = folder + "/config.json";
  ASSIGN_OR_RETURN(const std::string config_text, ReadSmallFile(config_path));
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(config_text, hf_overrides, config_path));
  GenerationConfig generation;
  const std::string generation_path = folder + "/generation_config.json";
  if (Exists(generation_path)) {
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(generation_path));
    ASSIGN_OR_RETURN(generation, ParseGenerationConfig(text, generation_path));
  }
  ASSIGN_OR_RETURN(const std::optional<Int4Config> int4, ParseInt4Config(config_text, hf_overrides, config_path));
  ASSIGN_OR_RETURN(Quantization kv_cache, Quantization::ParseKvCache(config_text, hf_overrides, config_path));
  if (int4) {
    const std::string_view name = Name(int4->layout);
    if (!flag.empty() && flag != "none" && flag != name) {
      return Unexpected(InvalidArgument("--quantization {}: {} is quantized ({}): leave the flag out", flag, folder, name));
    }
    ASSIGN_OR_RETURN(auto stored, OpenSafetensors(folder, std::move(config), std::move(generation), std::move(kv_cache)));
    return OpenInt4(std::move(stored), *int4);
  }
  ASSIGN_OR_RETURN(const bool fp8, IsFp8Config(config_text, hf_overrides, config_path));
  if (fp8) {
    if (!flag.empty() && flag != "none" && flag != "fp8" && flag != "compressed-tensors") {
      return Unexpected(InvalidArgument("--quantization {}: {} is quantized (fp8): leave the flag out", flag, folder));
    }
    ASSIGN_OR_RETURN(auto stored, OpenSafetensors(folder, std::move(config), std::move(generation), std::move(kv_cache)));
    return OpenFp8(std::move(stored));
  }
  ASSIGN_OR_RETURN(Quantization quantization,
                   DetectQuantization(folder, config_text, hf_overrides, flag));
  ASSIGN_OR_RETURN(auto checkpoint, OpenSafetensors(folder, std::move(config), std::move(generation),
                                                    std::move(quantization)));
  RETURN_IF_ERROR(RefuseOtherFormats(*checkpoint, folder));
  RETURN_IF_ERROR(CheckUnexpected(*checkpoint, folder));
  RETURN_IF_ERROR(CheckDescription(*checkpoint));
  RETURN_IF_ERROR(CheckSomeInt8(*checkpoint, folder));
  return OpenAscendInt4(std::move(checkpoint));
}

// The folder has no safetensors and no GGUF: says what is there instead. An architecture that is
// not supported is named first, so that nobody downloads weights in vain.
Status NoWeights(const std::string& folder, std::string_view hf_overrides) {
  if (Exists(folder + "/config.json")) {
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(folder + "/config.json"));
    const auto config = ParseModelConfig(text, hf_overrides, folder + "/config.json");
    if (!config) return config.error();
  }
  const bool pickled = !ListFiles(folder, ".bin").empty() || !ListFiles(folder, ".pth").empty();
  return NotFound("{}: holds no weights: found {}, expected *.safetensors or one *.gguf{}", folder,
                  DescribeFolder(folder),
                  pickled ? "; convert the PyTorch files to safetensors" : "");
}

Expected<std::unique_ptr<Checkpoint>> OpenGgufFile(const std::string& path,
                                                   std::string_view hf_overrides,
                                                   const std::string& flag) {
  RETURN_IF_ERROR(CheckQuantizationFlag(flag));
  if (flag == "ascend" || flag == "compressed-tensors") {
    return Unexpected(InvalidArgument("--quantization {}: {} is a GGUF file; leave the flag out", flag,
                                      path));
  }
  return OpenGguf(path, hf_overrides);
}

bool HoldsSafetensors(const std::string& folder) {
  return !ListFiles(folder, ".safetensors").empty() ||
         !ListFiles(folder, ".safetensors.index.json").empty();
}

}  // namespace

Status Checkpoint::ReadBlocks(const std::string& name, int64_t, BlockRow*) const {
  return Internal("{}: has no block format", name);
}

std::string Checkpoint::PlaceOf(std::string_view field) const {
  const std::vector<std::string>& overridden = config().overridden;
  const bool is_flag = std::find(overridden.begin(), overridden.end(), field) != overridden.end();
  return is_flag ? fmt::format("--hf-overrides: {}", field) : PlaceInFile(field);
}

std::string Checkpoint::PlaceInFile(std::string_view field) const {
  const std::string folder = path();
  return folder.empty() ? std::string(field) : fmt::format("{}/config.json: {}", folder, field);
}

const Quantization& Checkpoint::quantization() const {
  static const Quantization kNone;
  return kNone;
}

Expected<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path,
                                                       std::string_view hf_overrides,
                                                       const std::string& quantization) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return Unexpected(NotFound("{}: no such file or folder", path));
  }
  if (!fs::is_directory(status)) {
    if (path.ends_with(".gguf")) return OpenGgufFile(path, hf_overrides, quantization);
    return Unexpected(InvalidArgument(
        "{}: expected a model's folder or a .gguf file; for safetensors name the folder", path));
  }
  std::string folder = path;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  if (HoldsSafetensors(folder)) return OpenSafetensorsFolder(folder, hf_overrides, quantization);
  const std::vector<std::string> gguf = ListFiles(folder, ".gguf");
  if (gguf.size() == 1) {
    return OpenGgufFile(folder + "/" + gguf.front(), hf_overrides, quantization);
  }
  if (gguf.size() > 1) {
    return Unexpected(InvalidArgument("{}: found {} .gguf files, expected one; name the file: {}",
                                      folder, gguf.size(), folder + "/" + gguf.front()));
  }
  return Unexpected(NoWeights(folder, hf_overrides));
}

}  // namespace tiercel::checkpoint
