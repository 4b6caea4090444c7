#include "checkpoint/quantization.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/log.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/quantization_section.h"
#include "checkpoint/rope_config.h"

namespace tiercel::checkpoint {
namespace {

// A description takes about 60 bytes a tensor, of which the largest dense models have 5000.
constexpr size_t kMaxDescriptionBytes = size_t{16} << 20;

constexpr std::string_view kDescriptionName = "quant_model_description.json";
constexpr std::string_view kDescriptionPrefix = "quant_model_description";

constexpr std::string_view kOffered =
    "checkpoints of the Ascend quantizer (W8A8, W8A8_DYNAMIC, W8A8_MIX, W8A16, W4A8_DYNAMIC, W4A16), compressed-tensors "
    "(int-quantized, pack-quantized with 4 bits, float-quantized with 8), gptq and awq with 4 bits, and fp8 are read";

// The types of the description that are offered, by their names in the file.
constexpr std::array<std::pair<std::string_view, LinearScheme>, 7> kNamedSchemes = {{
    {"FLOAT", LinearScheme::kFloat},
    {"W8A8", LinearScheme::kStatic},
    {"W8A8_DYNAMIC", LinearScheme::kDynamic},
    {"W8A8_MIX", LinearScheme::kMix},
    {"W8A16", LinearScheme::kWeightOnly},
    {"W4A8_DYNAMIC", LinearScheme::kInt4},
    {"W4A16", LinearScheme::kInt4WeightOnly},
}};

std::optional<LinearScheme> SchemeOfType(std::string_view type) {
  for (const auto& [name, scheme] : kNamedSchemes) {
    if (name == type) return scheme;
  }
  return std::nullopt;
}

// Old versions write some tensors twice: "input_layernorm.module.weight" repeats "….weight", with
// a type that means nothing.
bool IsDuplicate(const std::string& tensor) {
  return tensor.find(".module.") != std::string::npos;
}

// Names go into messages of one line.
bool IsPlainName(const std::string& name) {
  constexpr size_t kLongest = 512;
  return name.size() <= kLongest && std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return c >= 0x20 && c < 0x7f;
         });
}

// A setting of the whole model: "" where it is absent, null, or no string.
std::string GlobalString(const Json& root, std::string_view key) {
  const auto it = root.find(key);
  return it != root.end() && it->is_string() ? it->get<std::string>() : "";
}

// The same of a number: 0 where it is absent, or none that can be the size of a group.
int64_t GlobalSize(const Json& root, std::string_view key) {
  const auto it = root.find(key);
  if (it == root.end() || !it->is_number_integer()) return 0;
  const auto value = it->get<int64_t>();
  return value > 0 && value <= 1 << 20 ? value : 0;
}

// The types of a description by tensor.
Expected<std::unordered_map<std::string, std::string>> ReadTypes(const Json& root,
                                                                 const std::string& path) {
  std::unordered_map<std::string, std::string> types;
  for (const auto& [key, value] : root.items()) {
    // Settings of the whole model have no dot in their names, and values of any kind.
    if (key.find('.') == std::string::npos || IsDuplicate(key)) continue;
    if (!IsPlainName(key)) {
      return Unexpected(InvalidArgument("{}: found the name {}, expected a tensor's", path,
                                        ShowJson(Json(key))));
    }
    if (!value.is_string()) {
      return Unexpected(InvalidArgument("{}: {}: found {}, expected the name of a type", path, key,
                                        ShowJson(value)));
    }
    types.emplace(key, value.get<std::string>());
  }
  if (types.empty()) {
    return Unexpected(InvalidArgument("{}: names no tensor; the file is not the description of "
                                      "quantized weights",
                                      path));
  }
  return types;
}

// Whether an object gives tensors types, as a description does.
bool IsDescription(const Json& object) {
  for (const auto& [name, value] : object.items()) {
    if (name.ends_with(".weight") && value.is_string()) return true;
  }
  return false;
}

// The format that an entry "weights" or "input_activations" of a compressed-tensors group asks for,
// checked field by field.
class GroupReader {
 public:
  GroupReader(const Json& group, std::string where) : group_(group), where_(std::move(where)) {}

  Expected<LinearScheme> Scheme() const {
    RETURN_IF_ERROR(CheckWeights());
    const JsonFields fields(group_, where_);
    if (fields.Has("output_activations")) {
      return Unexpected(fields.Wrong("output_activations", "none"));
    }
    const Json* input = fields.Get("input_activations");
    if (input == nullptr) return LinearScheme::kWeightOnly;
    const std::string where = where_ + ".input_activations";
    if (!input->is_object()) return Unexpected(fields.Wrong("input_activations", "an object"));
    const JsonFields in(*input, where);
    RETURN_IF_ERROR(CheckInt8(in));
    bool dynamic = false;
    RETURN_IF_ERROR(in.Bool("dynamic", dynamic));
    std::string strategy = dynamic ? "token" : "tensor";
    RETURN_IF_ERROR(in.String("strategy", strategy));
    if (strategy != (dynamic ? "token" : "tensor")) {
      return Unexpected(in.Wrong("strategy", dynamic ? "\"token\"" : "\"tensor\""));
    }
    bool symmetric = true;
    RETURN_IF_ERROR(in.Bool("symmetric", symmetric));
    if (dynamic && !symmetric) return Unexpected(in.Wrong("symmetric", "true"));
    return dynamic ? LinearScheme::kDynamic : LinearScheme::kStatic;
  }

 private:
  Status CheckWeights() const {
    const JsonFields fields(group_, where_);
    const Json* weights = fields.Get("weights");
    if (weights == nullptr || !weights->is_object()) {
      return fields.Wrong("weights", "an object");
    }
    const JsonFields w(*weights, where_ + ".weights");
    RETURN_IF_ERROR(CheckInt8(w));
    std::string strategy = "channel";
    RETURN_IF_ERROR(w.String("strategy", strategy));
    if (strategy != "channel") return w.Wrong("strategy", "\"channel\"");
    bool symmetric = true;
    RETURN_IF_ERROR(w.Bool("symmetric", symmetric));
    return symmetric ? OkStatus() : w.Wrong("symmetric", "true");
  }

  static Status CheckInt8(const JsonFields& fields) {
    int64_t bits = 8;
    RETURN_IF_ERROR(fields.Int("num_bits", 1, 64, bits));
    std::string type = "int";
    RETURN_IF_ERROR(fields.String("type", type));
    if (bits != 8) return fields.Wrong("num_bits", "8: only INT8 is supported");
    if (type != "int") return fields.Wrong("type", "\"int\": only INT8 is supported");
    return OkStatus();
  }

  const Json& group_;
  const std::string where_;
};

Expected<LinearScheme> ParseGroups(const JsonFields& fields, const std::string& where) {
  const Json* groups = fields.Get("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) {
    return Unexpected(fields.Wrong("config_groups", "an object of at least one group"));
  }
  std::optional<LinearScheme> scheme;
  for (const auto& [name, group] : groups->items()) {
    const std::string place = where + ".config_groups." + name;
    if (!group.is_object() || !IsPlainName(name)) {
      return Unexpected(InvalidArgument("{}.config_groups: {}: found {}, expected an object", where,
                                        ShowJson(Json(name)), ShowJson(group)));
    }
    ASSIGN_OR_RETURN(const LinearScheme found, GroupReader(group, place).Scheme());
    if (scheme && *scheme != found) {
      return Unexpected(Unimplemented("{}: its groups quantize in different ways; expected one way "
                                      "for all quantized layers",
                                      where));
    }
    scheme = found;
  }
  return *scheme;
}

// "group_size, model_quant_type and 3 more", for the refusal of an object.
std::string FieldNames(const Json& object) {
  constexpr size_t kShown = 4;
  std::string text;
  size_t shown = 0;
  for (const auto& [name, value] : object.items()) {
    if (shown == kShown) break;
    text += fmt::format("{}{}", shown++ > 0 ? ", " : "", ShowJson(Json(name)));
  }
  if (object.size() > kShown) text += fmt::format(" and {} more", object.size() - kShown);
  return text.empty() ? "an empty object" : text;
}

// "gptq with 4 bits", for the refusal of a format.
std::string DescribeFormat(const JsonFields& fields, const std::string& method) {
  const Json* bits = fields.Get("bits");
  return bits != nullptr && bits->is_number_integer()
             ? fmt::format("{} with {} bits", method, bits->get<int64_t>())
             : method;
}

Expected<std::optional<std::string>> FindDescription(const std::string& folder) {
  if (Exists(folder + "/" + std::string(kDescriptionName))) {
    return folder + "/" + std::string(kDescriptionName);
  }
  std::vector<std::string> names = ListFiles(folder, ".json");
  std::erase_if(names, [](const std::string& n) { return !n.starts_with(kDescriptionPrefix); });
  if (names.empty()) return std::nullopt;
  if (names.size() > 1) {
    return Unexpected(InvalidArgument("{}: found {} descriptions ({}, {}), expected one; remove "
                                      "those of other weights, or name the right one {}",
                                      folder, names.size(), names[0], names[1], kDescriptionName));
  }
  return folder + "/" + names.front();
}

Status NoDescription(const std::string& folder) {
  std::string found;
  for (const std::string& name : ListFiles(folder, ".json")) {
    found += (found.empty() ? "" : ", ") + name;
  }
  return InvalidArgument(
      "ModelSlim Quantization Config Not Found: --quantization ascend needs {}/{}; use a model that "
      "was quantized with the Ascend quantizer, or leave --quantization ascend out for a float model "
      "(Found JSON files in model directory: {})",
      folder, kDescriptionName, found.empty() ? "none" : found);
}

// --quantization none makes BF16 of four bits alone.
Status CheckNoInt8(const Quantization& quantization, const std::string& folder) {
  if (!quantization.HasInt8()) return OkStatus();
  return InvalidArgument("--quantization none: the INT8 weights in {} are not made BF16; leave the flag out", folder);
}

}  // namespace

std::string_view Name(QuantMethod method) {
  switch (method) {
    case QuantMethod::kNone: return "none";
    case QuantMethod::kAscend: return "ascend";
    case QuantMethod::kCompressedTensors: return "compressed-tensors";
  }
  return "";
}

Expected<Quantization> Quantization::ParseDescription(std::string_view json,
                                                      const std::string& path) {
  ASSIGN_OR_RETURN(const Json root, ParseJsonObject(json, path, kMaxDescriptionBytes));
  Quantization q;
  q.method_ = QuantMethod::kAscend;
  q.path_ = path;
  ASSIGN_OR_RETURN(q.types_, ReadTypes(root, path));
  q.group_size_ = GlobalSize(root, "group_size");
  for (const char* key : {"kv_cache_type", "kv_quant_type"}) {
    const std::string type = GlobalString(root, key);
    if (type == "C8") {
      q.kv_cache_ = DType::kI8;
    } else if (!type.empty() && type != "FLOAT") {
      q.notices_.push_back(fmt::format("{}: {} {} is not offered: the KV cache is BF16", path, key,
                                       ShowJson(root[key])));
    }
  }
  if (const std::string type = GlobalString(root, "fa_quant_type"); !type.empty()) {
    q.notices_.push_back(
        fmt::format("{}: fa_quant_type {} is not offered: attention computes in BF16", path,
                    ShowJson(root["fa_quant_type"])));
  }
  return q;
}

Expected<Quantization> Quantization::ParseConfig(std::string_view config_json,
                                                 std::string_view hf_overrides,
                                                 const std::string& path) {
  ASSIGN_OR_RETURN(const auto section, ReadQuantizationSection(config_json, hf_overrides, path));
  if (!section) return Quantization();
  const Json& config = section->config;
  const std::string& where = section->where;
  const JsonFields fields(config, where);
  std::string method;
  RETURN_IF_ERROR(fields.String("quant_method", method));
  if ((method.empty() || method == "ascend") && IsDescription(config)) {
    return ParseDescription(config.dump(), where);
  }
  if (method.empty() && config.contains("quant_method")) {
    return Unexpected(Unimplemented("{}: quant_method: found {}, expected a format: {}", where, ShowJson(config["quant_method"]),
                                    kOffered));
  }
  if (method.empty()) {
    return Unexpected(Unimplemented("{}: found {} and no quant_method, expected one, or the type of "
                                    "every tensor as in {}: {}",
                                    where, FieldNames(config), kDescriptionName, kOffered));
  }
  if (method != "compressed-tensors") {
    return Unexpected(Unimplemented("{}: found the format {}, which is not supported: {}", where,
                                    DescribeFormat(fields, ShowJson(method)), kOffered));
  }
  const Json* groups = fields.Get("config_groups");
  if (groups != nullptr && groups->is_object() && groups->empty() && fields.Has("kv_cache_scheme")) {
    return ParseKvCache(config_json, hf_overrides, path);  // nothing else is quantized
  }
  std::string format = "int-quantized";
  RETURN_IF_ERROR(fields.String("format", format));
  if (format != "int-quantized") {
    return Unexpected(Unimplemented(
        "{}: found compressed-tensors in the format {}, which is not supported: {}", where,
        ShowJson(format), kOffered));
  }
  for (const char* extra : {"sparsity_config", "transform_config"}) {
    const Json* value = fields.Get(extra);
    if (value != nullptr && !value->empty()) return Unexpected(fields.Wrong(extra, "none"));
  }
  Quantization q;
  q.method_ = QuantMethod::kCompressedTensors;
  q.path_ = path;
  ASSIGN_OR_RETURN(q.int8_scheme_, ParseGroups(fields, where));
  RETURN_IF_ERROR(q.ReadKvCacheScheme(fields, where));
  return q;
}

Expected<Quantization> Quantization::ParseKvCache(std::string_view config_json, std::string_view hf_overrides,
                                                  const std::string& path) {
  ASSIGN_OR_RETURN(const auto section, ReadQuantizationSection(config_json, hf_overrides, path));
  Quantization q;
  if (section) RETURN_IF_ERROR(q.ReadKvCacheScheme(JsonFields(section->config, section->where), section->where));
  return q;
}

// FP8 with one scale for a layer's keys and one for its values; of what else there may be a notice is kept.
Status Quantization::ReadKvCacheScheme(const JsonFields& fields, const std::string& where) {
  const Json* scheme = fields.Get("kv_cache_scheme");
  if (scheme == nullptr) return OkStatus();
  if (!scheme->is_object()) return fields.Wrong("kv_cache_scheme", "an object");
  const JsonFields in(*scheme, where + ".kv_cache_scheme");
  int64_t bits = 8;
  std::string type = "float", strategy = "tensor";
  bool dynamic = false, symmetric = true;
  RETURN_IF_ERROR(in.Int("num_bits", 1, 64, bits));
  RETURN_IF_ERROR(in.String("type", type));
  RETURN_IF_ERROR(in.String("strategy", strategy));
  RETURN_IF_ERROR(in.Bool("dynamic", dynamic));
  RETURN_IF_ERROR(in.Bool("symmetric", symmetric));
  if (bits == 8 && type == "float" && strategy == "tensor" && !dynamic && symmetric) {
    kv_cache_ = DType::kF8E4M3;
  } else {
    notices_.push_back(fmt::format("{}.kv_cache_scheme: found {}, {} bits by {}; offered is float, 8 bits by tensor, not "
                                   "dynamic: the KV cache is BF16",
                                   where, ShowJson(Json(type)), bits, ShowJson(Json(strategy))));
  }
  return OkStatus();
}

Expected<LinearScheme> Quantization::SchemeOf(const std::string& name,
                                              const std::string& type) const {
  const std::string tensor = name + ".weight";
  const bool int8 = type == "I8";
  switch (method_) {
    case QuantMethod::kNone:
      if (!int8) return LinearScheme::kFloat;
      return Unexpected(InvalidArgument(
          "tensor \"{}\" holds INT8 weights, and neither {} nor quantization_config in config.json "
          "says what they mean; download the missing file of the model",
          tensor, kDescriptionName));
    case QuantMethod::kCompressedTensors:
      return int8 ? int8_scheme_ : LinearScheme::kFloat;
    case QuantMethod::kAscend:
      break;
  }
  const auto it = types_.find(tensor);
  if (it == types_.end()) {
    return Unexpected(InvalidArgument("{}: has no entry for tensor \"{}\", which the model needs; the "
                                      "file belongs to other weights",
                                      path_, tensor));
  }
  const std::optional<LinearScheme> scheme = SchemeOfType(it->second);
  if (!scheme) {
    std::string names;
    for (const auto& [known, unused] : kNamedSchemes) names += fmt::format(", {}", known);
    return Unexpected(Unimplemented("{}: {}: found type {}, expected one of the supported ones: {}",
                                    path_, tensor, ShowJson(it->second), names.substr(2)));
  }
  const bool int4 = type == "I4";
  if (IsInt4(*scheme) ? int4 : !int4 && int8 == (*scheme != LinearScheme::kFloat)) return *scheme;
  return Unexpected(InvalidArgument("{}: {}: says {}, and the tensor is stored as {}; the file "
                                    "belongs to other weights",
                                    path_, tensor, it->second, type));
}

std::optional<LinearScheme> Quantization::DescribedScheme(const std::string& name) const {
  const auto it = types_.find(name + ".weight");
  return it == types_.end() ? std::nullopt : SchemeOfType(it->second);
}

bool Quantization::HasInt8() const {
  if (method_ != QuantMethod::kAscend) return method_ != QuantMethod::kNone;
  return std::any_of(types_.begin(), types_.end(), [](const auto& entry) {
    if (!entry.first.ends_with(".weight")) return false;
    const std::optional<LinearScheme> scheme = SchemeOfType(entry.second);
    return scheme && *scheme != LinearScheme::kFloat && !IsInt4(*scheme);
  });
}

std::vector<std::string> Quantization::TensorNames() const {
  std::vector<std::string> names;
  for (const auto& [name, type] : types_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

Status CheckQuantizationFlag(const std::string& flag) {
  for (const char* known : {"", "none", "ascend", "compressed-tensors", "gptq", "awq", "fp8", "int8", "int4", "gguf"}) {
    if (flag == known) return OkStatus();
  }
  return InvalidArgument("--quantization: {} is not supported: ascend, compressed-tensors, gptq, awq, fp8, "
                         "int8 and int4 (which quantize a float model as it is loaded), gguf and none (which makes BF16 of "
                         "weights of few bits) are",
                         flag)
      .WithParam("quantization");
}

Expected<Quantization> DetectQuantization(const std::string& folder, std::string_view config_json,
                                          std::string_view hf_overrides, const std::string& flag) {
  RETURN_IF_ERROR(CheckQuantizationFlag(flag));
  ASSIGN_OR_RETURN(const std::optional<std::string> description, FindDescription(folder));
  if (description && (flag.empty() || flag == "ascend" || flag == "none")) {
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(*description));
    ASSIGN_OR_RETURN(Quantization described, Quantization::ParseDescription(text, *description));
    if (flag == "none") RETURN_IF_ERROR(CheckNoInt8(described, folder));
    return described;
  }
  const std::string config_path = folder + "/config.json";
  ASSIGN_OR_RETURN(Quantization config,
                   Quantization::ParseConfig(config_json, hf_overrides, config_path));
  if ((flag == "int8" || flag == "int4") && (description || config.method() != QuantMethod::kNone)) {
    return Unexpected(InvalidArgument("--quantization {} quantizes a float model as it is loaded; "
                                      "{} is already quantized ({}): leave the flag out",
                                      flag, folder, description ? "ascend" : Name(config.method())));
  }
  if (flag == "none") RETURN_IF_ERROR(CheckNoInt8(config, folder));
  if (flag == "ascend" && config.method() != QuantMethod::kAscend) {
    return Unexpected(NoDescription(folder));
  }
  if (flag == "compressed-tensors" && config.method() != QuantMethod::kCompressedTensors) {
    return Unexpected(InvalidArgument("--quantization compressed-tensors: found {} in {}; leave the "
                                      "flag out",
                                      config.method() == QuantMethod::kNone
                                          ? "no quantization_config"
                                          : "a description of the Ascend quantizer",
                                      config_path));
  }
  if (flag == "gguf" || flag == "gptq" || flag == "awq" || flag == "fp8") {
    return Unexpected(InvalidArgument("--quantization {}: {} holds other weights; leave the flag out", flag, folder));
  }
  if (description) {
    LOG_WARNING("{} describes the weights (ascend): --quantization {} is used instead", *description,
                flag);
  }
  return config;
}

}  // namespace tiercel::checkpoint
