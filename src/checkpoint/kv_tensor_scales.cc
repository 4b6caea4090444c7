#include "checkpoint/kv_tensor_scales.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "checkpoint/convert.h"
#include "checkpoint/tensor_reader.h"

namespace tiercel::checkpoint {
namespace {

constexpr std::string_view kAttention = ".self_attn.";

// llm-compressor's and vLLM's own names, modelopt's, those of older compressed-tensors, and of older FP8 files.
constexpr std::string_view kKeyNames[] = {"k_scale", "attn.k_scale", "k_proj.k_scale", "k_proj.output_scale", "kv_scale"};
constexpr std::string_view kValueNames[] = {"v_scale", "attn.v_scale", "v_proj.v_scale", "v_proj.output_scale", "kv_scale"};

Expected<std::optional<float>> ReadScale(const Checkpoint& checkpoint, const std::string& attention,
                                         std::span<const std::string_view> names) {
  for (const std::string_view end : names) {
    const std::string name = attention + std::string(end);
    const std::optional<TensorInfo> info = checkpoint.Find(name);
    if (!info) continue;
    if (!info->shape.empty() && info->shape != std::vector<int64_t>{1}) {
      return Unexpected(InvalidArgument("{}: found [{}], expected one scale", name, fmt::join(info->shape, ", ")));
    }
    const std::optional<DType> type = ConvertibleType(info->type);
    const uint8_t* const bytes = checkpoint.MappedBytes(name);
    if (!type || bytes == nullptr) return Unexpected(InvalidArgument("{}: found {}, expected a float", name, info->type));
    float scale = 0;
    Convert(bytes, *type, 1, &scale);
    if (!IsScale(scale)) {
      return Unexpected(InvalidArgument("{}: found {}, expected a scale from 1e-18 to 1e+18", name, scale));
    }
    return scale;
  }
  return std::nullopt;
}

}  // namespace

Expected<KvTensorScales> ReadKvTensorScales(const Checkpoint& checkpoint, const std::string& attention) {
  ASSIGN_OR_RETURN(const std::optional<float> key, ReadScale(checkpoint, attention, kKeyNames));
  ASSIGN_OR_RETURN(const std::optional<float> value, ReadScale(checkpoint, attention, kValueNames));
  return KvTensorScales{key.value_or(value.value_or(1)), value.value_or(key.value_or(1))};
}

bool IsKvTensorScale(std::string_view name) {
  const size_t at = name.find(kAttention);
  if (at == std::string_view::npos) return false;
  const std::string_view end = name.substr(at + kAttention.size());
  const auto is_one_of = [&](const auto& names) { return std::find(std::begin(names), std::end(names), end) != std::end(names); };
  return is_one_of(kKeyNames) || is_one_of(kValueNames);
}

}  // namespace tiercel::checkpoint
