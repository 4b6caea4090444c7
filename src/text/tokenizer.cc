#include "text/tokenizer.h"

#include <algorithm>

#include "base/check.h"
#include "base/file_hints.h"
#include "text/ffi.h"
#include "text/ffi_bytes.h"
#include "text/files.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace tiercel::text {

struct Tokenizer::Impl {
  struct Token {
    std::string_view spelling, bytes;  // owned by `handle`
    bool special = false;
  };

  ~Impl() { tiercel_tokenizer_free(handle); }

  TiercelTokenizer* handle = nullptr;
  std::vector<Token> tokens;
  size_t leading_spaces = 0;  // that Decode takes off
  std::vector<std::string_view> added[256];  // by first byte, if special tokens may be split
  size_t longest = 0;         // bytes of a token
  bool splits_special_tokens = false;
  std::optional<int32_t> bos, eos;
};

namespace {

constexpr std::string_view kMark = "\xEF\xB7\x90";  // U+FDD0

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  const size_t size = tiercel_tokenizer_size(impl_->handle);
  impl_->tokens.reserve(size);
  impl_->leading_spaces = tiercel_tokenizer_leading_spaces(impl_->handle);
  for (size_t id = 0; id < size; ++id) {
    const TiercelTokenView token = tiercel_tokenizer_token(impl_->handle, id);
    impl_->tokens.push_back({.spelling = View(token.spelling, token.spelling_size),
                             .bytes = View(token.bytes, token.bytes_size),
                             .special = (token.flags & kTiercelTokenSpecial) != 0});
    impl_->longest = std::max(impl_->longest, token.bytes_size);
  }
}

Tokenizer::~Tokenizer() = default;

Expected<std::shared_ptr<Tokenizer>> Tokenizer::Make(std::unique_ptr<Impl> impl,
                                                     const TokenizerOptions& options) {
  if (options.split_special_tokens) {
    FfiBytes error;
    if (!tiercel_tokenizer_drop_marks(impl->handle, error.out())) {
      return Unexpected(InvalidArgument("--split-special-tokens is not possible here: {}", error.text()));
    }
    for (size_t id = 0, size = tiercel_tokenizer_size(impl->handle); id < size; ++id) {
      const TiercelTokenView token = tiercel_tokenizer_token(impl->handle, id);
      if ((token.flags & kTiercelTokenAdded) == 0 || token.bytes_size == 0) continue;
      impl->added[token.bytes[0]].push_back(View(token.bytes, token.bytes_size));
    }
    impl->splits_special_tokens = true;
  }
  return std::shared_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

bool Tokenizer::splits_special_tokens() const { return impl_->splits_special_tokens; }

std::string Tokenizer::Marked(std::string_view text) const {
  CHECK(splits_special_tokens());
  std::string marked;
  marked.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    marked.push_back(text[i]);
    const std::vector<std::string_view>& added = impl_->added[static_cast<uint8_t>(text[i])];
    if (std::none_of(added.begin(), added.end(),
                     [&](std::string_view token) { return text.substr(i).starts_with(token); })) {
      continue;
    }
    // Behind the whole first character.
    while (i + 1 < text.size() && (static_cast<uint8_t>(text[i + 1]) & 0xC0) == 0x80) {
      marked.push_back(text[++i]);
    }
    marked += kMark;
  }
  return marked;
}

Expected<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const std::string& dir,
                                                           TokenizerOptions options) {
  const std::string path = dir + "/tokenizer.json";
  ASSIGN_OR_RETURN(const auto json, ReadFileIfPresent(path, kMaxTokenizerBytes));
  if (!json) {
    return Unexpected(NotFound(
        "{}: not found; expected the tokenizer of the model (is the download complete?)", path));
  }
  ASSIGN_OR_RETURN(const auto config,
                   ReadFileIfPresent(dir + "/tokenizer_config.json", kMaxTokenizerConfigBytes));
  auto impl = std::make_unique<Impl>();
  FfiBytes error;
  impl->handle = tiercel_tokenizer_from_json(FfiData(*json), json->size(),
                                             config ? FfiData(*config) : nullptr,
                                             config ? config->size() : 0, error.out());
  if (impl->handle == nullptr) {
    return Unexpected(InvalidArgument("{}/{}{}", dir, error.text(), WrongFileHint(*json)));  // it begins with the file's name
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Tokenizer> tokenizer, Make(std::move(impl), options));
  if (config) {
    const TokenizerConfig parsed = ParseTokenizerConfig(*config);
    const auto id = [&](const std::optional<std::string>& token) -> std::optional<int32_t> {
      return token ? tokenizer->TokenToId(*token) : std::nullopt;
    };
    tokenizer->impl_->bos = id(parsed.bos_token);
    tokenizer->impl_->eos = id(parsed.eos_token);
  }
  return tokenizer;
}

Expected<std::shared_ptr<const Tokenizer>> Tokenizer::FromGguf(const GgufVocab& vocab,
                                                               TokenizerOptions options) {
  const std::string json = ToJson(vocab);
  auto impl = std::make_unique<Impl>();
  FfiBytes error;
  impl->handle = tiercel_tokenizer_from_gguf(FfiData(json), json.size(), error.out());
  if (impl->handle == nullptr) return Unexpected(InvalidArgument("{}", error.text()));
  const auto optional = [](int64_t id) {
    return id >= 0 ? std::optional<int32_t>(static_cast<int32_t>(id)) : std::nullopt;
  };
  impl->bos = optional(vocab.bos);
  impl->eos = optional(vocab.eos);
  return Make(std::move(impl), options);
}

Expected<std::vector<int32_t>> Tokenizer::Encode(std::string_view text, bool add_special) const {
  struct Ids : TiercelIds {
    ~Ids() { tiercel_ids_free(*this); }
  };
  Ids ids{};
  FfiBytes error;
  if (!tiercel_tokenizer_encode(impl_->handle, FfiData(text), text.size(), add_special, &ids,
                                error.out())) {
    return Unexpected(
        InvalidArgument("The model's tokenizer cannot encode this text: {}", error.text()));
  }
  return std::vector<int32_t>(ids.data, ids.data + ids.size);
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!(skip_special && IsSpecial(id))) bytes += TokenBytes(id);
  }
  const size_t first = std::min(bytes.find_first_not_of(' '), bytes.size());
  const size_t begin = std::min(first, impl_->leading_spaces);
  std::string text;
  text.reserve(bytes.size() - begin);
  AppendValidUtf8(std::string_view(bytes).substr(begin), &text);
  return text;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return impl_->tokens[id].bytes;
}

std::string_view Tokenizer::TokenString(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return impl_->tokens[id].spelling;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && impl_->tokens[id].special;
}

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  const int32_t id =
      tiercel_tokenizer_token_to_id(impl_->handle, FfiData(token), token.size());
  return id >= 0 ? std::optional(id) : std::nullopt;
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->tokens.size()); }
int64_t Tokenizer::longest_token_bytes() const { return static_cast<int64_t>(impl_->longest); }
std::optional<int32_t> Tokenizer::bos() const { return impl_->bos; }
const TiercelTokenizer* Tokenizer::handle() const { return impl_->handle; }
std::optional<int32_t> Tokenizer::eos() const { return impl_->eos; }

}  // namespace tiercel::text
