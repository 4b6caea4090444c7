#include "checkpoint/pooling_modules.h"

#include "checkpoint/json_fields.h"
#include "checkpoint/model_folder.h"

namespace tiercel::checkpoint {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;

// "sentence_transformers.models.Pooling" → "Pooling"
std::string LastName(const std::string& type) { return type.substr(type.rfind('.') + 1); }

Status CheckLastToken(const std::string& path) {
  if (!Exists(path)) return OkStatus();  // a decoder's default
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path));
  ASSIGN_OR_RETURN(const Json config, ParseJsonObject(text, path, kMaxBytes));
  const JsonFields fields(config, path);
  for (const auto& [key, value] : config.items()) {
    constexpr std::string_view kMode = "pooling_mode_";
    if (!key.starts_with(kMode) || !value.is_boolean() || !value.get<bool>()) continue;
    if (key != "pooling_mode_lasttoken") {
      return fields.Wrong(key, "false: vectors are taken from the last token alone");
    }
  }
  return OkStatus();
}

}  // namespace

Expected<std::optional<PoolingModules>> ReadPoolingModules(const std::string& folder) {
  const std::string path = folder + "/modules.json";
  if (!Exists(path)) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path));
  // The reader of objects checks size and nesting.
  ASSIGN_OR_RETURN(const Json root, ParseJsonObject("{\"modules\":" + text + "}", path, kMaxBytes));
  const JsonFields fields(root, path);
  const Json* const modules = fields.Get("modules");
  if (modules == nullptr || !modules->is_array()) {
    return Unexpected(fields.Wrong("modules", "a list of modules"));
  }
  PoolingModules pooling;
  bool pools = false;
  for (const Json& module : *modules) {
    if (!module.is_object()) return Unexpected(fields.Wrong("modules", "a list of modules"));
    const JsonFields module_fields(module, path);
    std::string type, place;
    RETURN_IF_ERROR(module_fields.String("type", type));
    RETURN_IF_ERROR(module_fields.String("path", place));
    const std::string name = LastName(type);
    if (name == "Pooling") {
      pools = true;
      if (place.find_first_of("/\\") != std::string::npos || place == "..") {
        return Unexpected(module_fields.Wrong("path", "the name of a folder in the model's"));
      }
      RETURN_IF_ERROR(CheckLastToken(folder + "/" + place + "/config.json"));
    } else if (name == "Normalize") {
      pooling.normalize = true;
    } else if (name != "Transformer") {
      return Unexpected(
          module_fields.Wrong("type", "Transformer, Pooling or Normalize: no other module is run"));
    }
  }
  if (!pools) return std::nullopt;
  return pooling;
}

}  // namespace tiercel::checkpoint
