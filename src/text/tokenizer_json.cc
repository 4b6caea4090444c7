#include "text/tokenizer_json.h"

#include <nlohmann/json.hpp>

namespace tiercel::text {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxTokens = 1 << 22;

// tokenizer_config.json spells a token as a string or as an AddedToken object.
std::optional<std::string> TokenField(const Json& config, const char* key) {
  const auto it = config.find(key);
  if (it == config.end()) return std::nullopt;
  if (it->is_string()) return it->get<std::string>();
  if (it->is_object() && it->contains("content") && (*it)["content"].is_string()) {
    return (*it)["content"].get<std::string>();
  }
  return std::nullopt;
}

// Whether a part of the tokenizer is a ByteLevel, alone or in a sequence.
bool HasByteLevel(const Json& part) {
  if (!part.is_object()) return false;
  if (part.value("type", Json()) == "ByteLevel") return true;
  for (const Json& inner : part.value("pretokenizers", Json::array())) {
    if (HasByteLevel(inner)) return true;
  }
  return false;
}

bool IsByteLevel(const Json& tokenizer) {
  return tokenizer["model"].value("type", Json("BPE")) == "BPE" && HasByteLevel(tokenizer.value("pre_tokenizer", Json()));
}

}  // namespace

std::string PaddingToken(size_t id) { return "[PAD" + std::to_string(id) + "]"; }

TokenizerConfig ParseTokenizerConfig(std::string_view json) {
  const auto parsed = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return {};
  return {.bos_token = TokenField(parsed, "bos_token"), .eos_token = TokenField(parsed, "eos_token"),
          .pad_token = TokenField(parsed, "pad_token")};
}

Expected<GgufVocab> ParseVocab(std::string_view json, const std::string& path) {
  const auto parsed = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  const Json model = parsed.is_object() ? parsed.value("model", Json()) : Json();
  const auto has = [&](const char* key, Json::value_t type) { return model.is_object() && model.value(key, Json()).type() == type; };
  if (!has("vocab", Json::value_t::object) || !has("merges", Json::value_t::array) || !IsByteLevel(parsed)) {
    return Unexpected(Unimplemented("{}: expected a byte-level BPE, which is what becomes a GGUF vocabulary here", path));
  }
  GgufVocab vocab;
  vocab.model = "gpt2";
  bool valid = true;
  const auto set = [&](const std::string& token, const Json& id, int32_t type) {
    valid = valid && id.is_number_unsigned() && id.get<uint64_t>() < kMaxTokens && !token.empty();
    if (!valid) return;
    const auto at = id.get<size_t>();
    if (at >= vocab.tokens.size()) {
      vocab.tokens.resize(at + 1);
      vocab.token_types.resize(at + 1, kUnusedToken);
    }
    vocab.tokens[at] = token;
    vocab.token_types[at] = type;
  };
  for (const auto& [token, id] : model["vocab"].items()) set(token, id, kNormalToken);
  for (const Json& added : parsed.value("added_tokens", Json::array())) {
    const bool is_token = added.is_object() && added.value("content", Json()).is_string();
    const int32_t type = is_token && added.value("special", Json()) == true ? kControlToken : kUserDefinedToken;
    if (is_token) set(added["content"].get<std::string>(), added.value("id", Json()), type);
    valid = valid && is_token;
  }
  for (const Json& merge : model["merges"]) {
    const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    valid = valid && (pair || merge.is_string());
    if (!valid) break;
    vocab.merges.push_back(pair ? merge[0].get<std::string>() + " " + merge[1].get<std::string>() : merge.get<std::string>());
  }
  if (!valid) return Unexpected(InvalidArgument("{}: vocab, merges or added_tokens hold what is no token", path));
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    if (vocab.tokens[id].empty()) vocab.tokens[id] = PaddingToken(id);
  }
  return vocab;
}

std::string ToJson(const GgufVocab& vocab) {
  const Json description = {
      {"model", vocab.model},   {"pre", vocab.pre},
      {"tokens", vocab.tokens}, {"scores", vocab.scores},
      {"merges", vocab.merges}, {"token_types", vocab.token_types},
      {"bos", vocab.bos},       {"unknown", vocab.unknown},
      {"add_bos", vocab.add_bos}, {"add_space_prefix", vocab.add_space_prefix}};
  // Spellings that are not UTF-8 cannot be looked up by anyone; they decode to U+FFFD.
  return description.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tiercel::text
