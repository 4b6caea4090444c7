// Which tensor of a GGUF file gets which type: llama.cpp's mixes by their names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/config.h"
#include "checkpoint/gguf_types.h"

namespace tiercel::quantize {

struct GgufScheme {
  std::string_view name;             // "q4_k_m"
  checkpoint::GgufTensorType base;   // of most matrices
  checkpoint::GgufTensorType finer;  // of v_proj and down_proj in some layers, see NeedsMoreBits
  checkpoint::GgufTensorType head;   // of lm_head, or of the embedding if it is the head
  int64_t file_type;                 // llama.cpp's number
};

// Null: there is none of this name.
const GgufScheme* FindGgufScheme(std::string_view name);

// The first and the last eighth of the layers, and each third of those between.
bool NeedsMoreBits(int64_t layer, int64_t layers);

// The type of "model.layers.0.mlp.up_proj" and the like, of "lm_head" and "model.embed_tokens", with rows of k: where they are no
// whole blocks of 256, one of 32 of about as many bits; no whole blocks of 32 either: BF16.
checkpoint::GgufTensorType TypeOf(const GgufScheme& scheme, const checkpoint::ModelConfig& config,
                                  const std::string& linear, int64_t k);

}  // namespace tiercel::quantize
