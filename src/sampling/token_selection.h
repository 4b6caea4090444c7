// Picks the most likely tokens of a row without sorting the vocabulary.
//
// The row is cut into chunks and each chunk's maximum is taken (pass one). The k-th largest of the
// chunk maxima has at least k elements at or above it, so collecting those (pass two) is certain
// to contain the top k, and usually holds little more. All orders here are total: the larger
// logit first, of equal logits the smaller id. A NaN counts as −inf.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/vector_ops.h"

namespace tiercel::sampling {

struct Candidate {
  float logit;
  int32_t id;
};

inline bool Precedes(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// Every filter keeps the first tokens of the order, so that the last one kept tells them all:
// whether the token `id` with this logit comes no later than `last`.
inline bool IsUpTo(const Candidate& last, float logit, int64_t id) {
  return logit > last.logit || (logit == last.logit && id <= last.id);
}

// A nucleus of up to this many tokens is found by sorting candidates, a larger one by histogram.
inline constexpr int64_t kNucleusList = 256;

// One worker's selector: holds its scratch memory (12 bytes per vocabulary entry).
class TokenSelector {
 public:
  TokenSelector(const VectorOps& ops, int64_t vocab_size);

  // Takes a row for the calls below and returns its maximum (−inf if there is none). `k` sizes
  // the chunks: it is the largest number of tokens that First or TopK will be asked for. The row
  // must stay unchanged until the next Start. The calls below need a maximum that is not +inf,
  // those with weights a finite one.
  float Start(const float* row, int64_t k);

  // The first `k` tokens in order; all if there are not so many.
  std::span<const Candidate> First(int64_t k);

  // The tokens with logit ≥ floor that are among the first `k` or tie with the k-th, in order,
  // but for those at −inf.
  std::span<const Candidate> TopK(int64_t k, float floor);

  // All tokens with logit ≥ floor, in order of id.
  std::span<const Candidate> AtLeast(float floor);

  // The smallest number of first tokens that together hold the share `p` of Σ exp((x−max)·scale),
  // in order; empty if they are more than kNucleusList: then use NucleusEnd.
  std::span<const Candidate> Nucleus(float p, float scale);

  // That set by its last token and its Σ exp((x−max)·scale).
  struct Set {
    Candidate last;
    double mass;
  };
  // Fills `weights` with exp((x−max)·scale) of the whole row.
  Set NucleusEnd(float p, float scale, std::vector<float>* weights);

 private:
  void Collect(float threshold);
  void CollectFirst(int64_t k, float floor);
  float KthLargestChunk(int64_t k);

  VectorOps ops_;
  int64_t n_;
  const float* row_ = nullptr;
  float max_ = 0;
  int64_t chunk_ = 0;
  std::vector<float> chunk_max_;
  std::vector<float> order_;  // chunk_max_, partially sorted
  std::vector<int32_t> indices_;
  std::vector<Candidate> candidates_;
};

}  // namespace tiercel::sampling
