// ModelConfig: what a checkpoint's config.json (or GGUF metadata) says, checked.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"

namespace tiercel::checkpoint {

// Bounds far above every known model; products of them fit easily into 63 bits.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxVocab = 1 << 22;

enum class RopeType { kDefault, kLinear, kYarn, kLlama3 };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double factor = 1;
  int64_t original_max_position_embeddings = 0;  // yarn, llama3
  double beta_fast = 32, beta_slow = 1;          // yarn
  std::optional<double> attention_factor;        // yarn; default 0.1 · ln(factor) + 1
  bool truncate = true;                          // yarn: round the correction range to whole dims
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
};

// What the forward pass gives of a row.
enum class Head {
  kLogits,  // one for each token of the vocabulary
  kHidden,  // the last hidden state, normed: for models that pool
};

// What a configuration says of a model that gives vectors or labels instead of tokens.
struct PoolingConfig {
  // …ForSequenceClassification: a linear from a token's hidden state to so many labels; 0: there is none.
  int64_t num_labels = 0;
  std::vector<std::string> labels;  // [num_labels] the names of id2label; empty where it has none
  // The labels are rows of the head, those of these tokens. With two tokens and one label it is the
  // difference of the second one's and the first one's row: sigmoid(d) is the softmax over the two.
  std::vector<std::string> classifier_from_token;
  bool regression = false;   // problem_type: labels have no activation
  bool multi_label = false;  // problem_type: a sigmoid each instead of a softmax over all
  // The first values of a vector are a vector by themselves: of any length, or of one of these.
  bool is_matryoshka = false;
  std::vector<int64_t> matryoshka_dimensions;
};

struct ModelConfig {
  std::string architecture;  // "Qwen3ForCausalLM", … as config.json has it
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = false;
  bool qk_norm = false;   // Qwen3
  bool qkv_bias = false;  // Qwen2
  bool o_bias = false;    // attention_bias of Llama and Qwen3
  bool mlp_bias = false;
  PoolingConfig pooling;
  RopeConfig rope;
  DType dtype = DType::kBF16;          // the checkpoint's
  std::vector<int32_t> eos_token_ids;  // config.json's; may be empty
  std::optional<int32_t> bos_token_id;
  std::vector<std::string> overridden;  // the fields that --hf-overrides sets, for messages

  // max_position_embeddings, times the factor where RoPE scaling extends it (vLLM's rule).
  int64_t DerivedMaxModelLen() const;
};

// Whether the heads can be shared out over `size` ranks: an equal number of query heads each, and
// of KV heads either an equal number each or one on an equal number of ranks. The message lists
// the sizes that can.
Status CheckTensorParallelSize(const ModelConfig& config, int64_t size);

// generation_config.json; absent fields are nullopt.
struct GenerationConfig {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int64_t> top_k, max_new_tokens;
  std::vector<int32_t> eos_token_ids;
  std::vector<std::string> unread;  // keys, as a message shows them
};

// Parses config.json's text; `hf_overrides` is a JSON object merged over it ("" for none); `path`
// is for messages, and so are `names`, the file's own for config.json's fields (see OwnNames). Every number is bounded; an
// unknown architecture names found and supported.
Expected<ModelConfig> ParseModelConfig(std::string_view json, std::string_view hf_overrides, const std::string& path,
                                       const std::function<std::string(std::string_view field)>& names = {});
Expected<GenerationConfig> ParseGenerationConfig(std::string_view json, const std::string& path);

}  // namespace tiercel::checkpoint
