// Beams: a beam search over the log-probabilities of a model, as vLLM's. Pure logic.
//
// Each step every live beam grows by each of the 2 · width likeliest tokens; the `width` growths of the
// best score live on, and those that end in an end token are complete. Score: the sum of the tokens'
// log-probabilities over (tokens, prompt included, a last end token not) ^ length_penalty.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sampling/sampler.h"

namespace tiercel::sampling {

inline constexpr int kMaxBeamWidth = 128;

struct BeamOptions {
  int width = 1;             // 1 … kMaxBeamWidth
  int64_t prompt_tokens = 1;  // ≥ 1
  int64_t max_tokens = 1;    // of an answer, ≥ 1
  double length_penalty = 1;
  std::vector<int32_t> end_tokens;  // none: every beam runs to max_tokens
  std::optional<int> logprobs;  // entries of each token in an answer, after the token itself; −1: all given
};

class Beams {
 public:
  explicit Beams(BeamOptions options);

  // The tokens of each live beam, best first; at first one beam without tokens.
  int num_live() const { return static_cast<int>(live_.size()); }
  std::vector<int32_t> LiveTokens(int beam) const { return TokensOf(live_[static_cast<size_t>(beam)].node); }

  // What may come next in each live beam: its likeliest tokens, best first. `next[i]` is that of beam i,
  // at least 2 · width entries where the vocabulary has them.
  void Grow(std::span<const std::vector<TokenLogprob>> next);

  // No growth can change the answers any more.
  bool done() const;

  struct Answer {
    std::vector<int32_t> tokens;  // with the end token
    std::vector<std::vector<TokenLogprob>> top;  // by token, the token itself first; empty without logprobs
    bool ended = false;  // by an end token
  };
  // The best `width` answers, best first. Only when done().
  std::vector<Answer> Take();

 private:
  // A token behind another; −1: behind the prompt. Beams share what they have in common.
  struct Node {
    int32_t parent = -1;
    int32_t token = 0;
    std::vector<TokenLogprob> top;
  };
  struct Beam {
    int32_t node = -1;
    double logprob = 0;  // the sum
    double score = 0;
  };
  // A growth that has not been chosen yet.
  struct Growth {
    int beam = 0;
    TokenLogprob token;
    double logprob = 0;
    double score = 0;
  };

  double Score(double logprob, int64_t tokens) const;
  bool IsEnd(int32_t token) const;
  Beam Chosen(const Growth& growth, const std::vector<TokenLogprob>& next);
  void Complete(Beam beam);
  std::vector<int32_t> TokensOf(int32_t node) const;
  Answer AnswerOf(const Beam& beam) const;

  const BeamOptions options_;
  int64_t length_ = 0;  // of every live beam
  std::vector<Node> nodes_;
  std::vector<Beam> live_;      // by score, best first
  std::vector<Beam> complete_;  // the best `width`, best first
};

}  // namespace tiercel::sampling
