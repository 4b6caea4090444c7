// Rotary embedding frequencies of a model: the same numbers as Hugging Face's
// modeling_rope_utils for default, linear, YaRN and Llama-3 scaling.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/config.h"

namespace tiercel::model {

struct RopeTable {
  std::vector<float> inv_freq;  // [head_dim / 2]
  float attention_factor = 1;   // multiplies cos and sin (YaRN)
};

// head_dim is even. Arithmetic is FP32 where Hugging Face's tensors are.
RopeTable MakeRopeTable(const checkpoint::RopeConfig& config, int64_t head_dim,
                        int64_t max_position_embeddings);

}  // namespace tiercel::model
