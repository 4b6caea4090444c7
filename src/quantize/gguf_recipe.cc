#include "quantize/gguf_recipe.h"

#include <cstdlib>

namespace tiercel::quantize {
namespace {

using checkpoint::GgufTensorType;

constexpr GgufScheme kSchemes[] = {
    {"q4_0", GgufTensorType::kQ4_0, GgufTensorType::kQ4_0, GgufTensorType::kQ6_K, 2},
    {"q4_k_m", GgufTensorType::kQ4_K, GgufTensorType::kQ6_K, GgufTensorType::kQ6_K, 15},
    {"q5_k_m", GgufTensorType::kQ5_K, GgufTensorType::kQ6_K, GgufTensorType::kQ6_K, 17},
    {"q6_k", GgufTensorType::kQ6_K, GgufTensorType::kQ6_K, GgufTensorType::kQ6_K, 18},
    {"q8_0", GgufTensorType::kQ8_0, GgufTensorType::kQ8_0, GgufTensorType::kQ8_0, 7},
};

// With blocks of 32.
GgufTensorType Smaller(GgufTensorType type) {
  switch (type) {
    case GgufTensorType::kQ4_K: return GgufTensorType::kQ5_0;
    case GgufTensorType::kQ5_K: return GgufTensorType::kQ5_1;
    case GgufTensorType::kQ6_K: return GgufTensorType::kQ8_0;
    default: return type;
  }
}

bool Fits(GgufTensorType type, int64_t k) {
  return k % checkpoint::GgufBlockOf(static_cast<uint32_t>(type))->elements == 0;
}

GgufTensorType Wanted(const GgufScheme& scheme, const checkpoint::ModelConfig& config, const std::string& linear) {
  const bool tied = config.tie_word_embeddings;
  if (linear == "lm_head" || (tied && linear == "model.embed_tokens")) return scheme.head;
  if (!linear.ends_with(".v_proj") && !linear.ends_with(".down_proj")) return scheme.base;
  const int64_t layer = std::atoll(linear.c_str() + std::string_view("model.layers.").size());
  return NeedsMoreBits(layer, config.num_layers) ? scheme.finer : scheme.base;
}

}  // namespace

const GgufScheme* FindGgufScheme(std::string_view name) {
  for (const GgufScheme& scheme : kSchemes) {
    if (scheme.name == name) return &scheme;
  }
  return nullptr;
}

bool NeedsMoreBits(int64_t layer, int64_t layers) {
  const int64_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

GgufTensorType TypeOf(const GgufScheme& scheme, const checkpoint::ModelConfig& config, const std::string& linear,
                      int64_t k) {
  const GgufTensorType wanted = Wanted(scheme, config, linear);
  if (Fits(wanted, k)) return wanted;
  const GgufTensorType smaller = Smaller(wanted);
  return Fits(smaller, k) ? smaller : GgufTensorType::kBF16;
}

}  // namespace tiercel::quantize
