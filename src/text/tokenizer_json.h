// The JSON that surrounds a tokenizer: tokenizer_config.json in, a GGUF vocabulary out.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace tiercel::text {

struct TokenizerConfig {
  std::optional<std::string> bos_token, eos_token;
};

// What cannot be read counts as absent: the file is a supplement.
TokenizerConfig ParseTokenizerConfig(std::string_view json);

// The description that text/ffi.h's tiercel_tokenizer_from_gguf takes.
std::string ToJson(const GgufVocab& vocab);

}  // namespace tiercel::text
