// A checkpoint in one GGUF file (versions 2 and 3): weights, configuration and tokenizer.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace tiercel::checkpoint {

// Tensors appear under their Hugging Face names, and Llama's query and key rows in Hugging Face's
// order, so that rotary embedding pairs element i with i + head_dim / 2 for every architecture.
// Quantized tensors are dequantized as they are read.
Expected<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path,
                                               std::string_view hf_overrides);

}  // namespace tiercel::checkpoint
