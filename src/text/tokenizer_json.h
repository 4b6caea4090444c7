// The JSON that surrounds a tokenizer: tokenizer_config.json and tokenizer.json in, a GGUF vocabulary out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace tiercel::text {

// The largest known tokenizer.json has 35 MB; as a tree of values it takes some thirty times that.
inline constexpr size_t kMaxTokenizerBytes = size_t{64} << 20;
inline constexpr size_t kMaxTokenizerConfigBytes = size_t{16} << 20;

struct TokenizerConfig {
  std::optional<std::string> bos_token, eos_token, pad_token;
};

// What cannot be read counts as absent: the file is a supplement.
TokenizerConfig ParseTokenizerConfig(std::string_view json);

// GGUF's types of tokens that are written, and its spelling of an id that has none: of the type kUnusedToken.
inline constexpr int32_t kNormalToken = 1, kControlToken = 3, kUserDefinedToken = 4, kUnusedToken = 5;
std::string PaddingToken(size_t id);

// The model, tokens, token types and merges of a tokenizer.json with a byte-level BPE. Ids that have no token get an unused
// one. `path` is for messages.
Expected<GgufVocab> ParseVocab(std::string_view json, const std::string& path);

// The description that text/ffi.h's tiercel_tokenizer_from_gguf takes.
std::string ToJson(const GgufVocab& vocab);

}  // namespace tiercel::text
