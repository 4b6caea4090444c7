// Sampler: from one row of logits to one token, with the log-probabilities that were asked for.
//
// Order (vLLM's): constraint → raw log-probabilities → processors (sampling/logits_processors.h) → greedy
// argmax, or temperature → min_p → top_k → top_p → draw. A greedy row costs one pass over the
// vocabulary, a row with top_k or min_p two, one with top_p alone three short ones.
//
// Whatever the row holds, the result is defined and depends on nothing but the row:
// NaN counts as −inf, +inf as the largest float, and if all are −inf (there is no token to draw) the
// token is 0, at −inf as all others.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "sampling/logits_processors.h"
#include "sampling/token_selection.h"
#include "sampling/vector_ops.h"

namespace tiercel::sampling {

// Which values are reported: before or after the processors, temperature and filters (a greedy row
// has none of the latter two; neither has a prompt's, nor processors); normalized or not.
enum class LogprobsMode { kRawLogprobs, kRawLogits, kProcessedLogprobs, kProcessedLogits };

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // finite or −inf
  // Of the token itself: how many have at least its value, ties counted. Of the most likely: 1, 2, …
  int64_t rank = 0;
};

struct SampledToken {
  int32_t token = 0;
  std::vector<TokenLogprob> top;  // [0] the token itself, then the most likely; may be empty
};

// One per worker: rows of different workers may be sampled at the same time, each with its own
// SequenceState.
class Sampler {
 public:
  Sampler(const VectorOps& ops, int64_t vocab_size, LogprobsMode mode);

  // Chooses the next token of the sequence and appends it to `state`. The row may be rewritten. Fails
  // where the sequence's constraint does; the token is then of no meaning.
  Status Sample(float* logits, SequenceState* state, SampledToken* out);

  // The value of `token`, which follows in the prompt, and of the `top_count` most likely (−1: all).
  void PromptLogprobs(const float* logits, int32_t token, int top_count,
                      std::vector<TokenLogprob>* out);

 private:
  // A row that the selector has started, without +inf.
  struct Row {
    const float* logits;
    float max;  // −inf: there is no token to draw
  };
  // A drawn token, and the last one of those from which it was drawn.
  struct Choice {
    int32_t token;
    Candidate last;
  };

  Row StartRow(const float* logits, int64_t k);
  Choice Choose(const Row& row, const SamplingParams& params, double uniform);
  Choice ChooseFromAll(const Row& row, float scale, double uniform);
  Choice ChooseFromNucleus(const Row& row, const SamplingParams& params, double uniform);
  int32_t Draw(std::span<const Candidate> candidates, float max, float scale, double uniform);
  void FillProcessed(const Row& row, const Candidate& last, float temperature);
  void Report(const float* values, int32_t token, int top_count, std::vector<TokenLogprob>* out);

  VectorOps ops_;
  int64_t vocab_size_;
  LogprobsMode mode_;
  TokenSelector selector_;
  std::vector<double> chunk_sums_;
  std::vector<float> processor_scratch_;
  std::vector<float> weights_;
  std::vector<float> raw_;        // the row before the processors, kept if they change it
  std::vector<float> processed_;  // for the processed modes
  std::vector<float> finite_;     // a row that holds +inf, without it
};

}  // namespace tiercel::sampling
