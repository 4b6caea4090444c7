// SamplingParams: how the next tokens of one request are chosen. Names and defaults are vLLM's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "sampling/repetition.h"
#include "sampling/token_constraint.h"

namespace tiercel::sampling {

// The samples that one request may ask for (vLLM's VLLM_MAX_N_SEQUENCES).
inline constexpr int kMaxSamples = 16384;

struct SamplingParams {
  int n = 1;
  float temperature = 1.0f;  // below 1e-5: greedy
  float top_p = 1.0f;        // (0, 1]
  int top_k = 0;             // 0 or −1: off
  float min_p = 0.0f;        // [0, 1]
  float repetition_penalty = 1.0f;  // > 0; over prompt and output
  float presence_penalty = 0.0f;    // [−2, 2]; over output
  float frequency_penalty = 0.0f;   // [−2, 2]; over output
  std::optional<uint64_t> seed;
  int64_t max_tokens = 16;
  int64_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;
  std::vector<std::string> stop;  // matched on text, off the engine thread
  bool include_stop_str_in_output = false;
  RepetitionDetection repetition_detection;
  // The n likeliest answers that a search of n beams finds (sampling/beams.h): of the fields here only
  // max_tokens, ignore_eos, logprobs and what concerns text have a meaning for it.
  bool use_beam_search = false;
  float length_penalty = 1.0f;
  bool skip_special_tokens = true;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::optional<std::vector<int32_t>> allowed_token_ids;
  std::vector<std::string> bad_words;
  // The token sequences of bad_words, filled in by whoever has the tokenizer (api/).
  std::vector<std::vector<int32_t>> bad_words_token_ids;
  std::shared_ptr<const TokenConstraintSource> constraint;  // null: none
  std::optional<int> logprobs;         // top entries beside the sampled token; −1: all
  std::optional<int> prompt_logprobs;  // likewise for the prompt's tokens

  bool greedy() const { return temperature < 1e-5f; }

  // Whether the next token depends on the tokens so far other than through the logits.
  bool has_penalties() const {
    return repetition_penalty != 1.0f || presence_penalty != 0.0f || frequency_penalty != 0.0f;
  }

  // Checks every range with vLLM's messages (param() names the field); clamps 0 < t < 0.01.
  // `max_logprobs` −1: no limit but the vocabulary.
  Status Validate(int64_t vocab_size, int max_logprobs);
};

}  // namespace tiercel::sampling
