#include "checkpoint/quantization_section.h"

#include <utility>

#include "checkpoint/field_places.h"
#include "checkpoint/rope_config.h"

namespace tiercel::checkpoint {

Expected<std::optional<QuantizationSection>> ReadQuantizationSection(std::string_view config_json,
                                                                     std::string_view hf_overrides,
                                                                     const std::string& path) {
  ASSIGN_OR_RETURN(Json root, ParseJsonObject(config_json, path, kMaxConfigBytes));
  Json overrides = Json::object();
  if (!hf_overrides.empty()) {
    ASSIGN_OR_RETURN(overrides, ParseJsonObject(hf_overrides, "--hf-overrides", kMaxConfigBytes));
  }
  const FieldPlaces places(path, root, overrides, {});
  MergeOverrides(std::move(overrides), root);
  const JsonFields top = FieldsOf(root, places, "");
  const char* key = top.Has("quantization_config") ? "quantization_config" : "compression_config";
  const Json* config = top.Get(key);
  if (config == nullptr) return std::nullopt;
  if (!config->is_object()) return Unexpected(top.Wrong(key, "an object"));
  return QuantizationSection{*config, places.Of("", key)};
}

}  // namespace tiercel::checkpoint
