#include "serving/generation_defaults.h"

#include <algorithm>

#include "base/log.h"
#include "checkpoint/model_folder.h"

namespace tiercel::serving {
namespace {

template <typename T>
void Override(std::optional<T>* base, const std::optional<T>& over) {
  if (over) *base = over;
}

std::optional<float> AsFloat(const std::optional<double>& value) {
  return value ? std::optional<float>(static_cast<float>(*value)) : std::nullopt;
}

template <typename T>
void Describe(const char* name, const std::optional<T>& value, std::string* text) {
  if (value) *text += fmt::format("{}'{}': {}", text->empty() ? "" : ", ", name, *value);
}

Expected<checkpoint::GenerationConfig> ReadFolder(const std::string& folder) {
  const std::string path = folder + "/generation_config.json";
  const auto text = checkpoint::ReadSmallFile(path);
  if (!text) {
    return Unexpected(Status(text.error().code(),
                             fmt::format("argument --generation-config: {} (auto, vllm or a folder is "
                                         "expected)",
                                         text.error().message())));
  }
  return checkpoint::ParseGenerationConfig(*text, path);
}

}  // namespace

Expected<ResolvedGeneration> ResolveGeneration(const GenerationDefaults& options,
                                               const checkpoint::GenerationConfig& of_model) {
  checkpoint::GenerationConfig config;
  if (options.source == "auto") {
    config = of_model;
  } else if (options.source != "vllm") {
    ASSIGN_OR_RETURN(config, ReadFolder(options.source));
  }
  ASSIGN_OR_RETURN(const checkpoint::GenerationConfig over,
                   checkpoint::ParseGenerationConfig(options.override_json,
                                                "--override-generation-config"));
  for (const std::string& key : over.unread) {
    LOG_WARNING("--override-generation-config: unknown key {}: nothing reads it; expected temperature, top_p, top_k, min_p, "
                "repetition_penalty, presence_penalty, frequency_penalty, max_new_tokens or eos_token_id", key);
  }
  Override(&config.temperature, over.temperature);
  Override(&config.top_p, over.top_p);
  Override(&config.min_p, over.min_p);
  Override(&config.top_k, over.top_k);
  Override(&config.repetition_penalty, over.repetition_penalty);
  Override(&config.presence_penalty, over.presence_penalty);
  Override(&config.frequency_penalty, over.frequency_penalty);
  Override(&config.max_new_tokens, over.max_new_tokens);
  if (!over.eos_token_ids.empty()) config.eos_token_ids = over.eos_token_ids;

  ResolvedGeneration resolved;
  api::SamplingDefaults& defaults = resolved.defaults;
  defaults.temperature = AsFloat(config.temperature);
  defaults.top_p = AsFloat(config.top_p);
  defaults.min_p = AsFloat(config.min_p);
  if (config.top_k) defaults.top_k = static_cast<int>(*config.top_k);
  defaults.repetition_penalty = AsFloat(config.repetition_penalty);
  defaults.presence_penalty = AsFloat(config.presence_penalty);
  defaults.frequency_penalty = AsFloat(config.frequency_penalty);
  defaults.max_new_tokens = config.max_new_tokens;
  resolved.eos_token_ids = config.eos_token_ids;

  std::string text;
  Describe("repetition_penalty", config.repetition_penalty, &text);
  Describe("temperature", config.temperature, &text);
  Describe("top_k", config.top_k, &text);
  Describe("top_p", config.top_p, &text);
  Describe("min_p", config.min_p, &text);
  Describe("presence_penalty", config.presence_penalty, &text);
  Describe("frequency_penalty", config.frequency_penalty, &text);
  Describe("max_tokens", config.max_new_tokens, &text);
  if (!text.empty()) resolved.description = "{" + text + "}";
  return resolved;
}

std::vector<int32_t> EosTokenIds(std::optional<int32_t> tokenizer, std::span<const int32_t> config,
                                 std::span<const int32_t> generation) {
  std::vector<int32_t> ids;
  if (tokenizer) ids.push_back(*tokenizer);
  for (const std::span<const int32_t> list : {config, generation}) {
    for (const int32_t id : list) {
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
    }
  }
  return ids;
}

}  // namespace tiercel::serving
