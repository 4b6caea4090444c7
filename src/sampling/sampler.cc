#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sampling/random.h"

namespace tiercel::sampling {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// The unfiltered draw walks sums of this many tokens, then the tokens of one chunk.
constexpr int64_t kDrawChunk = 1024;

bool IsRaw(LogprobsMode mode) {
  return mode == LogprobsMode::kRawLogprobs || mode == LogprobsMode::kRawLogits;
}
bool IsNormalized(LogprobsMode mode) {
  return mode == LogprobsMode::kRawLogprobs || mode == LogprobsMode::kProcessedLogprobs;
}

}  // namespace

Sampler::Sampler(const VectorOps& ops, int64_t vocab_size, LogprobsMode mode)
    : ops_(ops), vocab_size_(vocab_size), mode_(mode), selector_(ops, vocab_size) {
  chunk_sums_.reserve(static_cast<size_t>(vocab_size / kDrawChunk + 1));
}

void Sampler::Sample(float* logits, SequenceState* state, SampledToken* out) {
  const SamplingParams& params = state->params();
  const bool reports = params.logprobs.has_value();
  const float* reported = logits;
  if (state->ChangesLogits()) {
    if (reports && IsRaw(mode_)) {
      raw_.assign(logits, logits + vocab_size_);
      reported = raw_.data();
    }
    state->ApplyProcessors({logits, static_cast<size_t>(vocab_size_)}, &processor_scratch_);
  }
  keep_processed_ = reports && !IsRaw(mode_) && !params.greedy();
  out->token = Choose(logits, *state);
  if (keep_processed_) reported = processed_.data();
  out->top.clear();
  if (reports) Report(reported, out->token, *params.logprobs, IsNormalized(mode_), &out->top);
  state->Append(out->token);
}

void Sampler::PromptLogprobs(const float* logits, int32_t token, int top_count,
                             std::vector<TokenLogprob>* out) {
  Report(logits, token, top_count, IsNormalized(mode_), out);
}

int32_t Sampler::ChooseGreedy(const float* logits) {
  float max;
  return static_cast<int32_t>(ops_.argmax(logits, vocab_size_, &max));
}

int32_t Sampler::Choose(const float* logits, const SequenceState& state) {
  const SamplingParams& params = state.params();
  if (params.greedy()) return ChooseGreedy(logits);
  const float scale = 1.0f / params.temperature;
  const double uniform = UniformAt(state.seed(), static_cast<uint64_t>(state.num_output_tokens()));
  const bool has_top_k = params.top_k > 0 && params.top_k < vocab_size_;
  if (!has_top_k && params.min_p <= 0) {
    if (params.top_p < 1) return ChooseFromNucleus(logits, params, uniform);
    return ChooseFromAll(logits, scale, uniform);
  }
  const float max = selector_.Start(logits, has_top_k ? params.top_k : 1);
  // min_p: probability ≥ min_p · the largest one.
  const float floor =
      params.min_p > 0 ? max + params.temperature * std::log(params.min_p) : kMinusInfinity;
  std::span<const Candidate> kept;
  if (has_top_k) {
    kept = selector_.TopK(params.top_k, floor);
  } else if (params.top_p < 1) {
    kept = selector_.TopK(vocab_size_, floor);
  } else {
    kept = selector_.AtLeast(floor);
  }
  if (params.top_p < 1) {
    double total = 0;
    for (const Candidate& c : kept) total += std::exp((c.logit - max) * scale);
    double mass = 0;
    for (size_t i = 0; i < kept.size(); ++i) {
      mass += std::exp((kept[i].logit - max) * scale);
      if (mass >= static_cast<double>(params.top_p) * total) {
        kept = kept.first(i + 1);
        break;
      }
    }
  }
  if (keep_processed_) KeepOnly(kept, scale);
  return Draw(kept, max, scale, uniform);
}

int32_t Sampler::Draw(std::span<const Candidate> candidates, float max, float scale,
                      double uniform) {
  weights_.resize(candidates.size());
  double total = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    weights_[i] = std::exp((candidates[i].logit - max) * scale);
    total += weights_[i];
  }
  double left = uniform * total;
  int32_t last = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!(weights_[i] > 0)) continue;
    last = candidates[i].id;
    left -= weights_[i];
    if (left < 0) break;
  }
  return last;
}

int32_t Sampler::ChooseFromAll(const float* logits, float scale, double uniform) {
  float max;
  const int64_t best = ops_.argmax(logits, vocab_size_, &max);
  if (keep_processed_) {
    processed_.assign(logits, logits + vocab_size_);
    for (float& x : processed_) x *= scale;
  }
  double total = 0;
  chunk_sums_.clear();
  for (int64_t begin = 0; begin < vocab_size_; begin += kDrawChunk) {
    const int64_t size = std::min(kDrawChunk, vocab_size_ - begin);
    chunk_sums_.push_back(ops_.sum_exp(logits + begin, size, max, scale));
    total += chunk_sums_.back();
  }
  if (!(total > 0) || !std::isfinite(total)) return static_cast<int32_t>(best);
  double left = uniform * total;
  size_t chunk = 0;
  while (chunk + 1 < chunk_sums_.size() && left >= chunk_sums_[chunk]) left -= chunk_sums_[chunk++];
  // The vector sum and this scalar walk may differ in the last bits: past the chunk's end the
  // last possible token is the answer.
  int32_t last = static_cast<int32_t>(best);
  const int64_t begin = static_cast<int64_t>(chunk) * kDrawChunk;
  const int64_t end = std::min(begin + kDrawChunk, vocab_size_);
  for (int64_t i = begin; i < end; ++i) {
    const double weight = std::exp((logits[i] - max) * scale);
    if (!(weight > 0)) continue;
    last = static_cast<int32_t>(i);
    left -= weight;
    if (left < 0) break;
  }
  return last;
}

int32_t Sampler::ChooseFromNucleus(const float* logits, const SamplingParams& params,
                                   double uniform) {
  const float scale = 1.0f / params.temperature;
  const float max = selector_.Start(logits, 256);
  if (!std::isfinite(max)) return ChooseGreedy(logits);
  if (const auto list = selector_.Nucleus(params.top_p, scale); !list.empty()) {
    if (keep_processed_) KeepOnly(list, scale);
    return Draw(list, max, scale, uniform);
  }
  const auto [end, mass] = selector_.NucleusEnd(params.top_p, scale, &weights_);
  const auto kept = [logits, last = end](int64_t i) {
    return logits[i] > last.logit || (logits[i] == last.logit && i <= last.id);
  };
  if (keep_processed_) {
    processed_.resize(static_cast<size_t>(vocab_size_));
    for (int64_t i = 0; i < vocab_size_; ++i) {
      processed_[static_cast<size_t>(i)] = kept(i) ? logits[i] * scale : kMinusInfinity;
    }
  }
  double left = uniform * mass;
  int32_t last = end.id;
  for (int64_t i = 0; i < vocab_size_; ++i) {
    if (!kept(i)) continue;
    last = static_cast<int32_t>(i);
    left -= weights_[static_cast<size_t>(i)];
    if (left < 0) break;
  }
  return last;
}

void Sampler::KeepOnly(std::span<const Candidate> candidates, float scale) {
  processed_.assign(static_cast<size_t>(vocab_size_), kMinusInfinity);
  for (const Candidate& c : candidates) processed_[static_cast<size_t>(c.id)] = c.logit * scale;
}

void Sampler::Report(const float* logits, int32_t token, int top_count, bool normalize,
                     std::vector<TokenLogprob>* out) {
  const int64_t count = top_count < 0 ? vocab_size_ : std::min<int64_t>(top_count, vocab_size_);
  float offset = 0;
  const float max = selector_.Start(logits, std::max<int64_t>(1, count));
  if (normalize && std::isfinite(max)) {
    double sum = 0;
    for (int64_t begin = 0; begin < vocab_size_; begin += kDrawChunk) {
      sum += ops_.sum_exp(logits + begin, std::min(kDrawChunk, vocab_size_ - begin), max, 1.0f);
    }
    offset = max + static_cast<float>(std::log(sum));
  }
  out->clear();
  out->reserve(static_cast<size_t>(count + 1));
  const float value = logits[token];
  out->push_back({token, value - offset, 1 + ops_.count_greater(logits, vocab_size_, value)});
  if (count == 0) return;
  int64_t rank = 0;
  for (const Candidate& c : selector_.TopK(count, kMinusInfinity)) {
    out->push_back({c.id, c.logit - offset, ++rank});
  }
}

}  // namespace tiercel::sampling
