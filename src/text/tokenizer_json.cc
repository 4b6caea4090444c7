#include "text/tokenizer_json.h"

#include <nlohmann/json.hpp>

namespace tiercel::text {
namespace {

// tokenizer_config.json spells a token as a string or as an AddedToken object.
std::optional<std::string> TokenField(const nlohmann::json& config, const char* key) {
  const auto it = config.find(key);
  if (it == config.end()) return std::nullopt;
  if (it->is_string()) return it->get<std::string>();
  if (it->is_object() && it->contains("content") && (*it)["content"].is_string()) {
    return (*it)["content"].get<std::string>();
  }
  return std::nullopt;
}

}  // namespace

TokenizerConfig ParseTokenizerConfig(std::string_view json) {
  const auto parsed = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return {};
  return {.bos_token = TokenField(parsed, "bos_token"), .eos_token = TokenField(parsed, "eos_token")};
}

std::string ToJson(const GgufVocab& vocab) {
  const nlohmann::json description = {
      {"model", vocab.model},   {"pre", vocab.pre},
      {"tokens", vocab.tokens}, {"scores", vocab.scores},
      {"merges", vocab.merges}, {"token_types", vocab.token_types},
      {"bos", vocab.bos},       {"unknown", vocab.unknown},
      {"add_bos", vocab.add_bos}, {"add_space_prefix", vocab.add_space_prefix}};
  // Spellings that are not UTF-8 cannot be looked up by anyone; they decode to U+FFFD.
  return description.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace tiercel::text
