#include "api/prompt_text.h"

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
    return Fail(ContextOverflow((size + longest - 1) / longest, true, model));
  }
  Expected<std::vector<int32_t>> ids = model.tokenizer->Encode(text, add_special);
  if (!ids) return Fail(FromStatus(ids.error()));
  return std::move(*ids);
}

}  // namespace tiercel::api
