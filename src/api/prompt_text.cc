#include "api/prompt_text.h"

#include "base/round_up.h"

#include <algorithm>

namespace tiercel::api {

ApiError ContextOverflow(int64_t num_tokens, bool at_least, const ModelInfo& model) {
  const char* excess = num_tokens > model.max_model_len
                           ? "which exceeds this limit even without any output tokens"
                           : "which leaves no room for any output tokens";
  return BadParameter(
      fmt::format("This model's maximum context length is {} tokens. However, your prompt contains "
                  "{}{} input tokens, {}. Please reduce the length of the input prompt.",
                  model.max_model_len, at_least ? "at least " : "", num_tokens, excess),
      "input_tokens", std::to_string(num_tokens));
}

int64_t MaxTextBytes(const ModelInfo& model) {
  return model.max_model_len * std::max<int64_t>(model.tokenizer->longest_token_bytes(), 1);
}

Result<std::vector<int32_t>> EncodeText(std::string_view text, bool add_special,
                                        const ModelInfo& model) {
  const auto size = static_cast<int64_t>(text.size());
  if (size > MaxTextBytes(model)) {
    const int64_t longest = MaxTextBytes(model) / model.max_model_len;
    return Fail(ContextOverflow(CeilDiv(size, longest), true, model));
  }
  Expected<std::vector<int32_t>> ids = model.tokenizer->Encode(text, add_special);
  if (!ids) return Fail(FromStatus(ids.error()));
  return std::move(*ids);
}

namespace {

// How many tokens of a prompt are kept; nullopt: all.
Result<std::optional<int64_t>> TokensToKeep(const PromptOptions& options,
                                            int64_t output_tokens, const ModelInfo& model) {
  std::optional<int64_t> keep = options.truncate_prompt_tokens;
  if (keep && *keep > model.max_model_len) {
    return Fail(BadParameter(
        fmt::format("truncate_prompt_tokens value is greater than max_model_len ({}). Please "
                    "request a smaller truncation size.",
                    model.max_model_len),
        "truncate_prompt_tokens", std::to_string(*keep)));
  }
  if (keep == -1) keep = model.max_model_len - output_tokens;
  return keep;
}

void Truncate(int64_t keep, bool from_right, std::vector<int32_t>* ids) {
  const auto size = static_cast<int64_t>(ids->size());
  if (size <= keep) return;
  if (from_right) {
    ids->resize(static_cast<size_t>(keep));
  } else {
    ids->erase(ids->begin(), ids->begin() + (size - keep));
  }
}

// The end of `text` that is kept by a truncation, or more: what is cut off cannot fit.
std::string_view Reachable(std::string_view text, bool from_right, const ModelInfo& model) {
  const auto most = static_cast<size_t>(MaxTextBytes(model));
  if (text.size() <= most) return text;
  return from_right ? text.substr(0, most) : text.substr(text.size() - most);
}

std::optional<ApiError> CheckPrompt(const std::vector<int32_t>& ids, int64_t output_tokens,
                                    const ModelInfo& model) {
  if (ids.empty()) return BadRequest("The decoder prompt cannot be empty", "prompt");
  // The tokenizer's ids may reach beyond the rows of the logits; both bound what can be embedded.
  for (const int32_t id : ids) {
    if (id < 0 || id >= model.vocab_size) {
      return BadParameter(fmt::format("Token id {} is out of vocabulary", id), "prompt",
                          std::to_string(id));
    }
  }
  const auto size = static_cast<int64_t>(ids.size());
  if (size + output_tokens > model.max_model_len) return ContextOverflow(size, false, model);
  return std::nullopt;
}

}  // namespace

Result<std::vector<int32_t>> PromptIds(PromptInput input, const PromptOptions& options,
                                       int64_t output_tokens, const ModelInfo& model) {
  API_ASSIGN_OR_RETURN(const std::optional<int64_t> keep,
                       TokensToKeep(options, output_tokens, model));
  std::vector<int32_t> ids;
  if (auto* given = std::get_if<std::vector<int32_t>>(&input)) {
    ids = std::move(*given);
  } else {
    std::string_view text = std::get<std::string>(input);
    if (keep) text = Reachable(text, options.truncate_right, model);
    API_ASSIGN_OR_RETURN(ids, EncodeText(text, options.add_special_tokens, model));
  }
  if (keep) Truncate(*keep, options.truncate_right, &ids);
  API_RETURN_IF_ERROR(CheckPrompt(ids, output_tokens, model));
  return ids;
}

}  // namespace tiercel::api
