// A GGUF file's metadata as configuration and tokenizer.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_vocab.h"

namespace tiercel::checkpoint {

// The key, or the tensor, that says what config.json's field does ("qwen3.block_count" of num_hidden_layers): for messages.
std::string GgufKeyOf(std::string_view architecture, std::string_view field);

// The architectures qwen3, qwen2 and llama. `data` is the whole file, for rope_freqs.weight.
Expected<ModelConfig> GgufModelConfig(const GgufFile& file, std::span<const uint8_t> data,
                                      std::string_view hf_overrides, const std::string& path);

// tokens is empty where the file carries no tokenizer.
Expected<GgufTokenizerData> ReadGgufTokenizer(const GgufFile& file, const std::string& path);

}  // namespace tiercel::checkpoint
