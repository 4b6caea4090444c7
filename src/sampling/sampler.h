// Sampler: from one row of logits to one token, with the log-probabilities that were asked for.
//
// Order (vLLM's): raw log-probabilities → processors (sampling/logits_processors.h) → greedy
// argmax, or temperature → min_p → top_k → top_p → draw. A greedy row costs one pass over the
// vocabulary, a row with top_k or min_p two, one with top_p alone three short ones.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "sampling/logits_processors.h"
#include "sampling/token_selection.h"
#include "sampling/vector_ops.h"

namespace tiercel::sampling {

// Which values `logprobs` reports: before or after the processors, temperature and filters;
// normalized or not.
enum class LogprobsMode { kRawLogprobs, kRawLogits, kProcessedLogprobs, kProcessedLogits };

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
  int64_t rank = 0;  // 1-based
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

  // Chooses the next token of the sequence and appends it to `state`. The row may be rewritten.
  void Sample(float* logits, SequenceState* state, SampledToken* out);

  // The log-probability of `token`, which follows in the prompt, and of the `top_count` most
  // likely (−1: all), always raw.
  void PromptLogprobs(const float* logits, int32_t token, int top_count,
                      std::vector<TokenLogprob>* out);

 private:
  int32_t Choose(const float* logits, const SequenceState& state);
  int32_t ChooseGreedy(const float* logits);
  int32_t ChooseFromAll(const float* logits, float scale, double uniform);
  int32_t ChooseFromNucleus(const float* logits, const SamplingParams& params, double uniform);
  int32_t Draw(std::span<const Candidate> candidates, float max, float scale, double uniform);
  void KeepOnly(std::span<const Candidate> candidates, float scale);
  void Report(const float* logits, int32_t token, int top_count, bool normalize,
              std::vector<TokenLogprob>* out);

  VectorOps ops_;
  int64_t vocab_size_;
  LogprobsMode mode_;
  TokenSelector selector_;
  std::vector<double> chunk_sums_;
  std::vector<float> processor_scratch_;
  std::vector<float> weights_;
  std::vector<float> raw_;        // the row before the processors, kept if they change it
  std::vector<float> processed_;  // for the processed modes
  bool keep_processed_ = false;
};

}  // namespace tiercel::sampling
