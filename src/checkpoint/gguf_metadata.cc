#include "checkpoint/gguf_metadata.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace tiercel::checkpoint {
namespace {

Expected<std::string> ArchitectureName(const ModelConfig& config) {
  if (config.architecture == "Qwen3ForCausalLM") return std::string("qwen3");
  if (config.architecture == "Qwen2ForCausalLM") return std::string("qwen2");
  if (config.architecture == "LlamaForCausalLM") return std::string("llama");
  return Unexpected(Unimplemented("architectures: found {}, expected one that GGUF files have here: Qwen3ForCausalLM, "
                                  "Qwen2ForCausalLM, LlamaForCausalLM",
                                  config.architecture));
}

Status AddRope(const ModelConfig& config, const std::string& prefix, GgufEntries* entries) {
  const RopeConfig& rope = config.rope;
  entries->AddU32(prefix + "rope.dimension_count", config.head_dim);
  entries->AddF32(prefix + "rope.freq_base", rope.theta);
  switch (rope.type) {
    case RopeType::kDefault: return OkStatus();
    case RopeType::kLlama3:  // a tensor has its factors
      if (config.architecture == "LlamaForCausalLM") return OkStatus();
      return Unimplemented("rope_scaling: found llama3 in a {}, which GGUF files have for Llama alone", config.architecture);
    case RopeType::kLinear:
      entries->AddText(prefix + "rope.scaling.type", "linear");
      entries->AddF32(prefix + "rope.scaling.factor", rope.factor);
      return OkStatus();
    case RopeType::kYarn: break;
  }
  if (!rope.truncate) return Unimplemented("rope_scaling: found yarn without truncation, which GGUF files cannot say");
  entries->AddText(prefix + "rope.scaling.type", "yarn");
  entries->AddF32(prefix + "rope.scaling.factor", rope.factor);
  entries->AddU32(prefix + "rope.scaling.original_context_length", rope.original_max_position_embeddings);
  entries->AddF32(prefix + "rope.scaling.yarn_beta_fast", rope.beta_fast);
  entries->AddF32(prefix + "rope.scaling.yarn_beta_slow", rope.beta_slow);
  if (rope.attention_factor) {  // readers multiply it with YaRN's own
    entries->AddF32(prefix + "rope.scaling.attn_factor", *rope.attention_factor / (0.1 * std::log(rope.factor) + 1));
  }
  return OkStatus();
}

void AddTokenizer(const GgufDescription& description, GgufEntries* entries) {
  const GgufTokenizerData& t = description.tokenizer;
  entries->AddText("tokenizer.ggml.model", t.model);
  entries->AddText("tokenizer.ggml.pre", t.pre);
  entries->AddTexts("tokenizer.ggml.tokens", t.tokens);
  entries->AddI32s("tokenizer.ggml.token_type", t.token_types);
  entries->AddTexts("tokenizer.ggml.merges", t.merges);
  const auto add_id = [&](const char* key, int64_t id) {
    if (id >= 0) entries->AddU32(key, id);
  };
  add_id("tokenizer.ggml.bos_token_id", t.bos);
  add_id("tokenizer.ggml.eos_token_id", t.eos);
  add_id("tokenizer.ggml.padding_token_id", t.padding);
  // Other ends of an answer have no key of their own; readers stop at the ends of a turn and of a message, too.
  const char* const other_ends[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
  size_t next = 0;
  for (const int32_t id : description.ends) {
    if (id != t.eos && next < std::size(other_ends)) add_id(other_ends[next++], id);
  }
  entries->AddBool("tokenizer.ggml.add_bos_token", t.add_bos);
  if (!t.chat_template.empty()) entries->AddText("tokenizer.chat_template", t.chat_template);
}

}  // namespace

Expected<GgufEntries> DescribeModel(const ModelConfig& config, const GgufDescription& description) {
  ASSIGN_OR_RETURN(const std::string architecture, ArchitectureName(config));
  const std::string prefix = architecture + ".";
  GgufEntries entries;
  entries.AddText("general.architecture", architecture);
  entries.AddText("general.type", "model");
  entries.AddText("general.name", description.name);
  entries.AddU32("general.file_type", description.file_type);
  entries.AddU32("general.quantization_version", 2);  // of the blocks' layouts
  entries.AddU32(prefix + "block_count", config.num_layers);
  entries.AddU32(prefix + "context_length", config.max_position_embeddings);
  entries.AddU32(prefix + "embedding_length", config.hidden_size);
  entries.AddU32(prefix + "feed_forward_length", config.intermediate_size);
  entries.AddU32(prefix + "attention.head_count", config.num_heads);
  entries.AddU32(prefix + "attention.head_count_kv", config.num_kv_heads);
  entries.AddU32(prefix + "attention.key_length", config.head_dim);
  entries.AddU32(prefix + "attention.value_length", config.head_dim);
  entries.AddF32(prefix + "attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  entries.AddU32(prefix + "vocab_size", config.vocab_size);
  RETURN_IF_ERROR(AddRope(config, prefix, &entries));
  AddTokenizer(description, &entries);
  return entries;
}

}  // namespace tiercel::checkpoint
