// Texts on their way to token ids, bounded before they are tokenized: n tokens stand for at most n
// times the bytes of the vocabulary's longest token, so a longer text cannot fit into the model's
// length. (A normalizer may shorten a text, by a third at most and never one of ASCII; the tokens of
// such a text are far from the longest.) Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/errors.h"
#include "api/options.h"

namespace tiercel::api {

using PromptInput = std::variant<std::string, std::vector<int32_t>>;

// How a body wants its prompts to be taken.
struct PromptOptions {
  std::optional<int64_t> truncate_prompt_tokens;  // −1: as much as fits
  bool truncate_right = false;                    // keep the first tokens, not the last
  bool add_special_tokens = true;
};

// The 400 for a prompt of so many tokens, or of at least so many.
ApiError ContextOverflow(int64_t num_tokens, bool at_least, const ModelInfo& model);

// The longest text that can fit, in bytes.
int64_t MaxTextBytes(const ModelInfo& model);

Result<std::vector<int32_t>> EncodeText(std::string_view text, bool add_special,
                                        const ModelInfo& model);

// The ids of one prompt as the engine computes it: cut as asked, of the vocabulary, not empty, with
// room for `output_tokens` (0 or 1) behind it.
Result<std::vector<int32_t>> PromptIds(PromptInput input, const PromptOptions& options,
                                       int64_t output_tokens, const ModelInfo& model);

}  // namespace tiercel::api
