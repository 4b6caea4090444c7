// Tokenizer: text to token ids and back; over the Rust library (text/ffi.h).
// Immutable after loading; every member may be called from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/gguf_vocab.h"
#include "base/status.h"

struct TiercelTokenizer;

namespace tiercel::text {

struct TokenizerOptions {
  // Text may be marked with Marked(); U+FDD0, which Unicode promises to be no character, is dropped
  // from all texts. Refused where marks cannot hold an added token off.
  bool split_special_tokens = false;
};

class Tokenizer {
 public:
  // `dir` holds tokenizer.json (and, if present, tokenizer_config.json, for added tokens' flags,
  // bos/eos and model_max_length).
  static Expected<std::shared_ptr<const Tokenizer>> Load(const std::string& dir,
                                                         TokenizerOptions options = {});
  static Expected<std::shared_ptr<const Tokenizer>> FromGguf(const GgufVocab& vocab,
                                                             TokenizerOptions options = {});
  ~Tokenizer();

  // Added tokens in `text` are recognized, as Hugging Face's encode does. `add_special` adds what
  // the post-processor adds (BOS for Llama; nothing for Qwen). Invalid UTF-8 is replaced by U+FFFD.
  // InvalidArgument where the vocabulary has no token for a piece of the text, or its patterns find no
  // end in it.
  Expected<std::vector<int32_t>> Encode(std::string_view text, bool add_special) const;

  bool splits_special_tokens() const;
  // `text` so that, within whatever it becomes a part of, Encode takes what looks like an added token for
  // text. Only where splits_special_tokens().
  std::string Marked(std::string_view text) const;

  // Ids that are negative or beyond the vocabulary decode to nothing. The space that a Llama
  // vocabulary puts before a text that it encodes is taken off again.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  // The bytes that a token stands for (may be part of a UTF-8 character); empty for unknown ids.
  // Special tokens give their text.
  std::string_view TokenBytes(int32_t id) const;
  // The vocabulary's own spelling ("Ġhello"), as return_token_strs shows; empty for unknown ids.
  std::string_view TokenString(int32_t id) const;
  bool IsSpecial(int32_t id) const;  // skipped by skip_special
  std::optional<int32_t> TokenToId(std::string_view token) const;

  int64_t vocab_size() const;  // 1 + the largest id
  // Of any token's bytes: n tokens stand for at most n times so many.
  int64_t longest_token_bytes() const;
  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;  // tokenizer_config's

  const TiercelTokenizer* handle() const;  // for text/ alone

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  static Expected<std::shared_ptr<Tokenizer>> Make(std::unique_ptr<Impl> impl,
                                                   const TokenizerOptions& options);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel::text
