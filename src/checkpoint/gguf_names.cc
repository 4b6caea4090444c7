#include "checkpoint/gguf_names.h"

#include <fmt/format.h>

#include <string_view>

namespace tiercel::checkpoint {
namespace {

struct NamePair {
  std::string_view gguf, hf;
};

constexpr NamePair kWhole[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};
constexpr NamePair kInLayer[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};
constexpr std::string_view kGgufLayers = "blk.", kHfLayers = "model.layers.";

std::string Renamed(const std::string& name, std::string_view NamePair::*from, std::string_view NamePair::*to) {
  for (const NamePair& pair : kWhole) {
    if (name == pair.*from) return std::string(pair.*to);
  }
  const bool back = from == &NamePair::hf;
  const std::string_view layers = back ? kHfLayers : kGgufLayers;
  if (!name.starts_with(layers)) return name;
  const size_t layer_end = name.find('.', layers.size());
  const size_t kind_begin = name.rfind('.');
  if (layer_end == std::string::npos || kind_begin <= layer_end) return name;
  const std::string layer = name.substr(layers.size(), layer_end - layers.size());
  const std::string middle = name.substr(layer_end + 1, kind_begin - layer_end - 1);
  for (const NamePair& pair : kInLayer) {
    if (middle != pair.*from) continue;
    return fmt::format("{}{}.{}{}", back ? kGgufLayers : kHfLayers, layer, pair.*to, name.substr(kind_begin));
  }
  return name;
}

}  // namespace

std::string HuggingFaceName(const std::string& gguf) { return Renamed(gguf, &NamePair::gguf, &NamePair::hf); }
std::string GgufName(const std::string& hugging_face) { return Renamed(hugging_face, &NamePair::hf, &NamePair::gguf); }

}  // namespace tiercel::checkpoint
