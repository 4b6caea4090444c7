// What the sampler remembers of one sequence, and what it does to its logits before a token is
// chosen: constraint → allowed_token_ids → bad_words → min_tokens → logit_bias → penalties (vLLM's order).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sampling/sampling_params.h"

namespace tiercel::sampling {

// Distinct tokens with how often they occur: an open hash table that only grows, so that a step
// costs no allocation once it is warm.
class TokenCounts {
 public:
  struct Entry {
    int32_t token = -1;
    int32_t count = 0;
  };

  void MakeRoom() { Grow(); }  // for 32 tokens more at least
  void Add(int32_t token) { ++Find(token).count; }
  bool Contains(int32_t token) const {
    return !slots_.empty() && slots_[Place(token)].token == token;
  }
  int64_t size() const { return size_; }

  // Calls visit(const Entry&) for every distinct token.
  template <typename F>
  void ForEach(F&& visit) const {
    for (const Entry& entry : slots_) {
      if (entry.token >= 0) visit(entry);
    }
  }

 private:
  size_t Place(int32_t token) const;  // where it is, or would be
  Entry& Find(int32_t token);
  void Grow();

  std::vector<Entry> slots_;  // size is a power of two
  int64_t size_ = 0;
};

// What the samples of a request have in common; it never changes.
struct SamplingContext {
  // `params` has passed Validate. `eos_token_ids` [0] is the primary one.
  SamplingContext(std::shared_ptr<const SamplingParams> params, std::span<const int32_t> prompt,
                  std::span<const int32_t> eos_token_ids);

  const std::shared_ptr<const SamplingParams> params;
  std::vector<int32_t> ending_tokens;  // stop and eos ids, masked until min_tokens
  TokenCounts prompt;                  // kept only if a penalty looks at it
  size_t longest_bad_word = 0;
};

// One sample's sampling state. Owned by the engine's sequence; between planning and the end of a
// step only the worker that samples its row touches it. It outlives preemption: the history is
// that of the tokens, not of the cache.
class SequenceState {
 public:
  SequenceState(std::shared_ptr<const SamplingContext> context, uint64_t seed);

  const SamplingParams& params() const { return *context_->params; }
  uint64_t seed() const { return seed_; }
  int64_t num_output_tokens() const { return num_output_tokens_; }

  // What the constraint allows, see TokenConstraint::Allowed. The rest is masked before anything is
  // reported of the row, as in vLLM.
  Expected<std::span<const uint32_t>> AllowedTokens();

  // Whether ApplyProcessors would change anything for the next token.
  bool ChangesLogits() const;

  // Edits the row for the next token. `scratch` is the caller's, kept between calls.
  void ApplyProcessors(std::span<float> logits, std::vector<float>* scratch) const;

  // Takes the token that was chosen.
  void Append(int32_t token);

 private:
  bool MasksEndings() const;
  void MaskBadWords(std::span<float> logits) const;
  void Penalize(std::span<float> logits) const;

  std::shared_ptr<const SamplingContext> context_;
  uint64_t seed_;
  std::unique_ptr<TokenConstraint> constraint_;  // null: none
  Status constraint_status_;
  int64_t num_output_tokens_ = 0;
  TokenCounts output_;         // kept only if there are penalties
  std::vector<int32_t> tail_;  // the last output tokens, as many as bad_words need
};

}  // namespace tiercel::sampling
