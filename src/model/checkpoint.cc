#include "model/checkpoint.h"

#include <filesystem>

#include "model/gguf.h"
#include "model/model_folder.h"
#include "model/safetensors.h"

namespace tiercel::model {
namespace {

namespace fs = std::filesystem;

// A tensor that the configuration does not ask for would be left out in silence, and the model
// would answer nonsense.
Status CheckUnexpected(const Checkpoint& checkpoint, const std::string& folder) {
  const ModelConfig& c = checkpoint.config();
  struct {
    const char* tensor;
    bool expected;
    const char* reason;
  } const kOptional[] = {
      {"self_attn.q_proj.bias", c.qkv_bias, "attention_bias"},
      {"self_attn.o_proj.bias", c.o_bias, "attention_bias"},
      {"mlp.gate_proj.bias", c.mlp_bias, "mlp_bias"},
      {"self_attn.q_norm.weight", c.qk_norm, "architectures"},
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

Expected<std::unique_ptr<Checkpoint>> OpenSafetensorsFolder(const std::string& folder,
                                                            std::string_view hf_overrides) {
  const std::string config_path = folder + "/config.json";
  ASSIGN_OR_RETURN(const std::string config_text, ReadSmallFile(config_path));
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(config_text, hf_overrides, config_path));
  GenerationConfig generation;
  const std::string generation_path = folder + "/generation_config.json";
  if (Exists(generation_path)) {
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(generation_path));
    ASSIGN_OR_RETURN(generation, ParseGenerationConfig(text, generation_path));
  }
  ASSIGN_OR_RETURN(auto checkpoint,
                   OpenSafetensors(folder, std::move(config), std::move(generation)));
  RETURN_IF_ERROR(CheckUnexpected(*checkpoint, folder));
  return checkpoint;
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

}  // namespace

Expected<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path,
                                                       std::string_view hf_overrides) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return Unexpected(NotFound("{}: no such file or folder", path));
  }
  if (!fs::is_directory(status)) {
    if (path.ends_with(".gguf")) return OpenGguf(path, hf_overrides);
    return Unexpected(InvalidArgument(
        "{}: expected a model's folder or a .gguf file; for safetensors name the folder", path));
  }
  std::string folder = path;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  if (!ListFiles(folder, ".safetensors").empty() ||
      Exists(folder + "/model.safetensors.index.json")) {
    return OpenSafetensorsFolder(folder, hf_overrides);
  }
  const std::vector<std::string> gguf = ListFiles(folder, ".gguf");
  if (gguf.size() == 1) return OpenGguf(folder + "/" + gguf.front(), hf_overrides);
  if (gguf.size() > 1) {
    return Unexpected(InvalidArgument("{}: found {} .gguf files, expected one; name the file: {}",
                                      folder, gguf.size(), folder + "/" + gguf.front()));
  }
  return Unexpected(NoWeights(folder, hf_overrides));
}

}  // namespace tiercel::model
