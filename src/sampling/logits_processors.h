// What the sampler remembers of one sequence, and what it does to its logits before a token is
// chosen: allowed_token_ids → bad_words → min_tokens → logit_bias → penalties (vLLM's order).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sampling/sampling_params.h"

namespace tiercel::sampling {

// Distinct tokens of a sequence with how often they occur in the output: an open hash table that
// only grows, so that a step costs no allocation once it is warm.
class TokenCounts {
 public:
  struct Entry {
    int32_t token = -1;
    int32_t output_count = 0;  // 0: seen in the prompt alone
  };

  void AddPrompt(int32_t token) { Find(token); }
  void AddOutput(int32_t token) { ++Find(token).output_count; }
  int64_t size() const { return size_; }

  // Calls visit(const Entry&) for every distinct token.
  template <typename F>
  void ForEach(F&& visit) const {
    for (const Entry& entry : slots_) {
      if (entry.token >= 0) visit(entry);
    }
  }

 private:
  Entry& Find(int32_t token);
  void Grow();

  std::vector<Entry> slots_;  // size is a power of two
  int64_t size_ = 0;
};

// One sample's sampling state. Owned by the engine's sequence; between planning and the end of a
// step only the worker that samples its row touches it. It outlives preemption: the history is
// that of the tokens, not of the cache.
class SequenceState {
 public:
  // `params` has passed Validate and outlives the state, as does the prompt during construction
  // only. `eos_token_ids` [0] is the primary one.
  SequenceState(std::shared_ptr<const SamplingParams> params, std::span<const int32_t> prompt,
                uint64_t seed, std::span<const int32_t> eos_token_ids);

  const SamplingParams& params() const { return *params_; }
  uint64_t seed() const { return seed_; }
  int64_t num_output_tokens() const { return num_output_tokens_; }

  // Whether ApplyProcessors would change anything for the next token.
  bool ChangesLogits() const;

  // Edits the row for the next token. `scratch` is the caller's, kept between calls.
  void ApplyProcessors(std::span<float> logits, std::vector<float>* scratch) const;

  // Takes the token that was chosen.
  void Append(int32_t token);

 private:
  void MaskBadWords(std::span<float> logits) const;
  void Penalize(std::span<float> logits) const;

  std::shared_ptr<const SamplingParams> params_;  // shared by the n samples of a request
  uint64_t seed_;
  int64_t num_output_tokens_ = 0;
  std::vector<int32_t> ending_tokens_;  // stop and eos ids, masked until min_tokens
  TokenCounts counts_;                  // kept only if there are penalties
  std::vector<int32_t> tail_;           // the last output tokens, as many as bad_words need
  size_t longest_bad_word_ = 0;
};

}  // namespace tiercel::sampling
