#include "sampling/sampling_params.h"

#include <cmath>

#include "base/log.h"
#include "sampling/beams.h"

namespace tiercel::sampling {
namespace {

// A float as Python's str() writes it, because clients compare the messages.
std::string PyFloat(float value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

// Negated comparisons also refuse NaN.
bool InRange(float value, float low, float high) { return value >= low && value <= high; }

template <typename... Args>
Status BadField(const char* param, fmt::format_string<Args...> format, Args&&... args) {
  return InvalidArgument(format, std::forward<Args>(args)...).WithParam(param);
}

Status CheckPenalties(const SamplingParams& p) {
  if (!InRange(p.presence_penalty, -2, 2)) {
    return BadField("presence_penalty", "presence_penalty must be in [-2, 2], got {}.",
                    PyFloat(p.presence_penalty));
  }
  if (!InRange(p.frequency_penalty, -2, 2)) {
    return BadField("frequency_penalty", "frequency_penalty must be in [-2, 2], got {}.",
                    PyFloat(p.frequency_penalty));
  }
  if (!(p.repetition_penalty > 0) || std::isinf(p.repetition_penalty)) {
    return BadField("repetition_penalty", "repetition_penalty must be greater than zero, got {}.",
                    PyFloat(p.repetition_penalty));
  }
  return OkStatus();
}

Status CheckDistribution(const SamplingParams& p) {
  if (!(p.temperature >= 0)) {
    return BadField("temperature", "temperature must be non-negative, got {}.",
                    PyFloat(p.temperature));
  }
  if (p.temperature > 2) {
    return BadField("temperature", "temperature must be in [0, 2], got {}.",
                    PyFloat(p.temperature));
  }
  if (!(p.top_p > 0 && p.top_p <= 1)) {
    return BadField("top_p", "top_p must be in (0, 1], got {}.", PyFloat(p.top_p));
  }
  if (p.top_k < -1) {
    return BadField("top_k", "top_k must be 0 (disable), or at least 1, got {}.", p.top_k);
  }
  if (!InRange(p.min_p, 0, 1)) {
    return BadField("min_p", "min_p must be in [0, 1], got {}.", PyFloat(p.min_p));
  }
  return OkStatus();
}

Status CheckLengths(const SamplingParams& p) {
  if (p.max_tokens < 1) {
    return BadField("max_tokens", "max_tokens must be at least 1, got {}.", p.max_tokens);
  }
  if (p.min_tokens < 0) {
    return BadField("min_tokens", "min_tokens must be greater than or equal to 0, got {}.",
                    p.min_tokens);
  }
  if (p.min_tokens > p.max_tokens) {
    return BadField("min_tokens", "min_tokens must be less than or equal to max_tokens={}, got {}.",
                    p.max_tokens, p.min_tokens);
  }
  for (const std::string& text : p.stop) {
    if (text.empty()) return BadField("stop", "stop cannot contain an empty string.");
  }
  return OkStatus();
}

Status CheckRepetitionDetection(const RepetitionDetection& d) {
  constexpr const char* kField = "repetition_detection";
  if (d.max_pattern_size < 0 || d.max_pattern_size > kMaxPatternSize) {
    return BadField(kField, "max_pattern_size must be between 0 and {}, got {}.", kMaxPatternSize,
                    d.max_pattern_size);
  }
  if (d.min_pattern_size < 0 || d.min_pattern_size > d.max_pattern_size) {
    return BadField(kField, "min_pattern_size must be between 0 and max_pattern_size={}, got {}.",
                    d.max_pattern_size, d.min_pattern_size);
  }
  if (d.max_pattern_size > 0 && d.min_count < 2) {
    return BadField(kField, "min_count must be at least 2, got {}.", d.min_count);
  }
  return OkStatus();
}

Status CheckLogprobs(const std::optional<int>& value, const char* param, const char* kind,
                     int64_t vocab_size, int max_logprobs) {
  if (!value) return OkStatus();
  if (*value < -1) return BadField(param, "`{}` must be a positive value or -1.", param);
  const int64_t limit = max_logprobs == -1 ? vocab_size : max_logprobs;
  const int64_t wanted = *value == -1 ? vocab_size : *value;
  if (wanted > limit) {
    return BadField(param, "Requested {} logprobs of {}, which is greater than max allowed: {}",
                    kind, wanted, limit);
  }
  return OkStatus();
}

// `ids` is any range of token ids.
template <typename Range>
Status CheckVocabulary(const Range& ids, const char* param, int64_t vocab_size) {
  std::string bad;
  int listed = 0;
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    // The message stays short whatever the request.
    if (++listed > 8) {
      bad += ", ...";
      break;
    }
    bad += fmt::format("{}{}", bad.empty() ? "" : ", ", id);
  }
  if (bad.empty()) return OkStatus();
  return BadField(param,
                  "token_id(s) [{}] in {} contain out-of-vocab token ids. Vocabulary size: {}", bad,
                  param, vocab_size);
}

Status CheckTokenLists(const SamplingParams& p, int64_t vocab_size) {
  std::vector<int32_t> biased;
  biased.reserve(p.logit_bias.size());
  for (const auto& [id, bias] : p.logit_bias) {
    if (std::isnan(bias)) {
      return BadField("logit_bias", "logit_bias of token {} must be a number, got nan.", id);
    }
    biased.push_back(id);
  }
  RETURN_IF_ERROR(CheckVocabulary(biased, "logit_bias", vocab_size));
  RETURN_IF_ERROR(CheckVocabulary(p.stop_token_ids, "stop_token_ids", vocab_size));
  if (p.allowed_token_ids) {
    if (p.allowed_token_ids->empty()) {
      return BadField("allowed_token_ids", "allowed_token_ids is not None and empty!");
    }
    for (const int32_t id : *p.allowed_token_ids) {
      if (id < 0 || id >= vocab_size) {
        return BadField("allowed_token_ids", "allowed_token_ids contains out-of-vocab token id!");
      }
    }
  }
  for (const auto& word : p.bad_words_token_ids) {
    if (word.empty()) return BadField("bad_words", "bad_words cannot contain an empty string.");
    RETURN_IF_ERROR(CheckVocabulary(word, "bad_words", vocab_size));
  }
  return OkStatus();
}

}  // namespace

Status SamplingParams::Validate(int64_t vocab_size, int max_logprobs) {
  if (n < 1) return BadField("n", "n must be at least 1, got {}.", n);
  if (n > kMaxSamples) return BadField("n", "n must be at most {}, got {}.", kMaxSamples, n);
  RETURN_IF_ERROR(CheckPenalties(*this));
  RETURN_IF_ERROR(CheckDistribution(*this));
  RETURN_IF_ERROR(CheckLengths(*this));
  RETURN_IF_ERROR(CheckRepetitionDetection(repetition_detection));
  RETURN_IF_ERROR(CheckLogprobs(logprobs, "logprobs", "sample", vocab_size, max_logprobs));
  RETURN_IF_ERROR(
      CheckLogprobs(prompt_logprobs, "prompt_logprobs", "prompt", vocab_size, max_logprobs));
  RETURN_IF_ERROR(CheckTokenLists(*this, vocab_size));
  if (use_beam_search && n > kMaxBeamWidth) {
    return BadField("n", "n must be at most {} with beam search, got {}.", kMaxBeamWidth, n);
  }
  if (greedy()) {
    if (n > 1 && !use_beam_search) return BadField("n", "n must be 1 when using greedy sampling, got {}.", n);
    // Greedy search looks at the largest logit alone.
    temperature = 0;
    top_p = 1;
    top_k = 0;
    min_p = 0;
  } else if (temperature < 0.01f) {
    LOG_WARNING(
        "temperature {} is less than 0.01, which may cause numerical errors nan or inf in "
        "tensors. We have maxed it out to 0.01.",
        temperature);
    temperature = 0.01f;
  }
  return OkStatus();
}

}  // namespace tiercel::sampling
