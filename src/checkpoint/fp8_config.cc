#include "checkpoint/fp8_config.h"

#include "checkpoint/json_fields.h"
#include "checkpoint/quantization_section.h"

namespace tiercel::checkpoint {
namespace {

const Json kBlockShape = {128, 128};

// Null and what is absent is fine: there is one scale for a tensor or a row.
Status CheckBlock(const JsonFields& fields, const char* key) {
  const Json* block = fields.Get(key);
  return block == nullptr || block->is_null() || *block == kBlockShape ? OkStatus() : fields.Wrong(key, "[128, 128]");
}

Status CheckFp8(const JsonFields& fields) {
  RETURN_IF_ERROR(CheckBlock(fields, "weight_block_size"));
  std::string format = "e4m3";
  RETURN_IF_ERROR(fields.String("fmt", format));
  return format == "e4m3" ? OkStatus() : fields.Wrong("fmt", "\"e4m3\"");
}

Status CheckCompressed(const JsonFields& fields, const std::string& where) {
  const Json* groups = fields.Get("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) {
    return fields.Wrong("config_groups", "an object of at least one group");
  }
  for (const auto& [name, group] : groups->items()) {
    const Json* weights = group.is_object() && group.contains("weights") ? &group["weights"] : nullptr;
    if (weights == nullptr || !weights->is_object()) {
      return fields.Wrong("config_groups", "groups with an object \"weights\" each");
    }
    const JsonFields w(*weights, where + ".config_groups: weights");
    int64_t bits = 0;
    RETURN_IF_ERROR(w.Int("num_bits", 1, 64, bits));
    if (bits != 8) return w.Wrong("num_bits", "8");
    std::string type = "int";
    RETURN_IF_ERROR(w.String("type", type));
    if (type != "float") return w.Wrong("type", "\"float\"");
    RETURN_IF_ERROR(CheckBlock(w, "block_structure"));
  }
  return OkStatus();
}

}  // namespace

Expected<bool> IsFp8Config(std::string_view config_json, std::string_view hf_overrides, const std::string& path) {
  ASSIGN_OR_RETURN(const auto section, ReadQuantizationSection(config_json, hf_overrides, path));
  if (!section) return false;
  const JsonFields fields(section->config, section->where);
  std::string method, format;
  RETURN_IF_ERROR(fields.String("quant_method", method));
  if (method == "fp8") {
    RETURN_IF_ERROR(CheckFp8(fields));
    return true;
  }
  if (method != "compressed-tensors") return false;
  RETURN_IF_ERROR(fields.String("format", format));
  if (format != "float-quantized") return false;
  RETURN_IF_ERROR(CheckCompressed(fields, section->where));
  return true;
}

}  // namespace tiercel::checkpoint
