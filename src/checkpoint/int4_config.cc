#include "checkpoint/int4_config.h"

#include "checkpoint/json_fields.h"
#include "checkpoint/quantization_section.h"

namespace tiercel::checkpoint {
namespace {

Status CheckGroup(const JsonFields& fields, const char* key, int64_t* group) {
  *group = 128;
  RETURN_IF_ERROR(fields.Int(key, -1, 1 << 20, *group));
  if (*group == -1) *group = 0;
  return *group % 32 == 0 ? OkStatus() : fields.Wrong(key, "32, a multiple of it, or -1");
}

Expected<Int4Config> ParseGptq(const JsonFields& fields) {
  Int4Config config{.layout = Int4Layout::kGptq, .symmetric = false, .stored_zero_less = 1};
  int64_t bits = 4;
  RETURN_IF_ERROR(fields.Int("bits", 1, 64, bits));
  if (bits != 4) return Unexpected(fields.Wrong("bits", "4"));
  RETURN_IF_ERROR(CheckGroup(fields, "group_size", &config.group));
  RETURN_IF_ERROR(fields.Bool("desc_act", config.reordered));
  std::string format = "gptq";
  RETURN_IF_ERROR(fields.String("checkpoint_format", format));
  if (format != "gptq" && format != "gptq_v2") {
    return Unexpected(fields.Wrong("checkpoint_format", "\"gptq\" or \"gptq_v2\""));
  }
  if (format == "gptq_v2") config.stored_zero_less = 0;
  return config;
}

Expected<Int4Config> ParseAwq(const JsonFields& fields) {
  Int4Config config{.layout = Int4Layout::kAwq, .symmetric = false};
  const char* const bits_key = fields.Has("w_bit") ? "w_bit" : "bits";
  int64_t bits = 4;
  RETURN_IF_ERROR(fields.Int(bits_key, 1, 64, bits));
  if (bits != 4) return Unexpected(fields.Wrong(bits_key, "4"));
  RETURN_IF_ERROR(CheckGroup(fields, fields.Has("q_group_size") ? "q_group_size" : "group_size", &config.group));
  std::string version = "gemm";
  RETURN_IF_ERROR(fields.String("version", version));
  if (version != "gemm" && version != "GEMM") return Unexpected(fields.Wrong("version", "\"gemm\""));
  return config;
}

Expected<Int4Config> ParseCompressed(const JsonFields& fields, const std::string& where) {
  const Json* groups = fields.Get("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->size() != 1 || !groups->begin().value().is_object()) {
    return Unexpected(fields.Wrong("config_groups", "an object of one group"));
  }
  const std::string place = where + ".config_groups";
  const JsonFields group(groups->begin().value(), place);
  const Json* inputs = group.Get("input_activations");
  if (inputs != nullptr && !inputs->is_null()) return Unexpected(group.Wrong("input_activations", "null"));
  const Json* weights = group.Get("weights");
  if (weights == nullptr || !weights->is_object()) return Unexpected(group.Wrong("weights", "an object"));
  const JsonFields w(*weights, place + ".weights");
  Int4Config config{.layout = Int4Layout::kCompressed};
  int64_t bits = 0;
  RETURN_IF_ERROR(w.Int("num_bits", 1, 64, bits));
  if (bits != 4) return Unexpected(w.Wrong("num_bits", "4"));
  std::string type = "int", strategy = "group";
  RETURN_IF_ERROR(w.String("type", type));
  if (type != "int") return Unexpected(w.Wrong("type", "\"int\""));
  RETURN_IF_ERROR(w.String("strategy", strategy));
  if (strategy == "channel") {
    config.group = 0;
  } else if (strategy == "group") {
    if (!w.Has("group_size")) return Unexpected(w.Wrong("group_size", "a number, which strategy \"group\" needs"));
    RETURN_IF_ERROR(CheckGroup(w, "group_size", &config.group));
  } else {
    return Unexpected(w.Wrong("strategy", "\"group\" or \"channel\""));
  }
  RETURN_IF_ERROR(w.Bool("symmetric", config.symmetric));
  // "static" and "weight" keep the plain order of the groups.
  const Json* order = w.Get("actorder");
  config.reordered = order != nullptr && (*order == "group" || *order == true);
  return config;
}

}  // namespace

std::string_view Name(Int4Layout layout) {
  switch (layout) {
    case Int4Layout::kGptq: return "gptq";
    case Int4Layout::kAwq: return "awq";
    case Int4Layout::kCompressed: return "compressed-tensors";
  }
  return "";
}

Expected<std::optional<Int4Config>> ParseInt4Config(std::string_view config_json, std::string_view hf_overrides,
                                                    const std::string& path) {
  ASSIGN_OR_RETURN(const auto section, ReadQuantizationSection(config_json, hf_overrides, path));
  if (!section) return std::nullopt;
  const JsonFields fields(section->config, section->where);
  std::string method, format;
  RETURN_IF_ERROR(fields.String("quant_method", method));
  Expected<Int4Config> parsed = Int4Config{};
  if (method == "gptq") {
    parsed = ParseGptq(fields);
  } else if (method == "awq") {
    parsed = ParseAwq(fields);
  } else if (method == "compressed-tensors") {
    RETURN_IF_ERROR(fields.String("format", format));
    if (format != "pack-quantized") return std::nullopt;
    parsed = ParseCompressed(fields, section->where);
  } else {
    return std::nullopt;
  }
  if (!parsed) return Unexpected(parsed.error());
  return std::optional<Int4Config>(*parsed);
}

}  // namespace tiercel::checkpoint
