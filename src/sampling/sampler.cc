#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sampling/random.h"

namespace tiercel::sampling {
namespace {

constexpr float kLargest = std::numeric_limits<float>::max();

// The last token of a row from which nothing was filtered out.
constexpr Candidate kEveryToken = {kMinusInfinity, std::numeric_limits<int32_t>::max()};

// The unfiltered draw walks sums of this many tokens, then the tokens of one chunk.
constexpr int64_t kDrawChunk = 1024;

bool IsRaw(LogprobsMode mode) {
  return mode == LogprobsMode::kRawLogprobs || mode == LogprobsMode::kRawLogits;
}
bool IsNormalized(LogprobsMode mode) {
  return mode == LogprobsMode::kRawLogprobs || mode == LogprobsMode::kProcessedLogprobs;
}
bool HasTopK(const SamplingParams& params, int64_t vocab_size) {
  return params.top_k > 0 && params.top_k < vocab_size;
}

// How many of the first tokens Choose will ask the selector for (1: those above a floor, or none).
int64_t NumWanted(const SamplingParams& params, int64_t vocab_size) {
  if (HasTopK(params, vocab_size)) return params.top_k;
  return params.top_p < 1 && params.min_p <= 0 ? kNucleusList : 1;
}

}  // namespace

Sampler::Sampler(const VectorOps& ops, int64_t vocab_size, LogprobsMode mode)
    : ops_(ops), vocab_size_(vocab_size), mode_(mode), selector_(ops, vocab_size) {
  chunk_sums_.reserve(static_cast<size_t>(vocab_size / kDrawChunk + 1));
  // A step allocates nothing. What is never used costs no memory either: its pages are not touched.
  for (std::vector<float>* scratch :
       {&processor_scratch_, &weights_, &raw_, &processed_, &finite_}) {
    scratch->reserve(static_cast<size_t>(vocab_size));
  }
}

Status Sampler::Sample(float* logits, SequenceState* state, SampledToken* out) {
  const SamplingParams& params = state->params();
  ASSIGN_OR_RETURN(const std::span<const uint32_t> allowed, state->AllowedTokens());
  if (!allowed.empty()) ops_.keep_allowed(logits, vocab_size_, allowed.data());
  const bool reports = params.logprobs.has_value();
  const float* reported = logits;
  if (state->ChangesLogits()) {
    if (reports && IsRaw(mode_)) {
      raw_.assign(logits, logits + vocab_size_);
      reported = raw_.data();
    }
    state->ApplyProcessors({logits, static_cast<size_t>(vocab_size_)}, &processor_scratch_);
  }
  if (params.greedy()) {
    float max;
    out->token = static_cast<int32_t>(ops_.argmax(logits, vocab_size_, &max));
  } else {
    const Row row = StartRow(logits, NumWanted(params, vocab_size_));
    const double uniform =
        UniformAt(state->seed(), static_cast<uint64_t>(state->num_output_tokens()));
    const Choice choice = Choose(row, params, uniform);
    out->token = choice.token;
    if (reports && !IsRaw(mode_)) {
      FillProcessed(row, choice.last, params.temperature);
      reported = processed_.data();
    }
  }
  out->top.clear();
  if (reports) Report(reported, out->token, *params.logprobs, &out->top);
  state->Append(out->token);
  return OkStatus();
}

void Sampler::PromptLogprobs(const float* logits, int32_t token, int top_count,
                             std::vector<TokenLogprob>* out) {
  Report(logits, token, top_count, out);
}

Sampler::Row Sampler::StartRow(const float* logits, int64_t k) {
  const float max = selector_.Start(logits, k);
  if (max <= kLargest) return {logits, max};
  finite_.resize(static_cast<size_t>(vocab_size_));
  for (int64_t i = 0; i < vocab_size_; ++i) {
    finite_[static_cast<size_t>(i)] = std::min(logits[i], kLargest);
  }
  return {finite_.data(), selector_.Start(finite_.data(), k)};
}

Sampler::Choice Sampler::Choose(const Row& row, const SamplingParams& params, double uniform) {
  if (row.max == kMinusInfinity) return {0, kEveryToken};
  const float scale = 1.0f / params.temperature;
  const bool has_top_k = HasTopK(params, vocab_size_);
  if (!has_top_k && params.min_p <= 0) {
    if (params.top_p < 1) return ChooseFromNucleus(row, params, uniform);
    return ChooseFromAll(row, scale, uniform);
  }
  // min_p: probability ≥ min_p · the largest one.
  const float floor =
      params.min_p > 0 ? row.max + params.temperature * std::log(params.min_p) : kMinusInfinity;
  if (!has_top_k && params.top_p >= 1) {
    const Candidate last = {floor, std::numeric_limits<int32_t>::max()};
    return {Draw(selector_.AtLeast(floor), row.max, scale, uniform), last};
  }
  std::span<const Candidate> kept =
      selector_.TopK(has_top_k ? params.top_k : vocab_size_, floor);
  if (params.top_p < 1) {
    double total = 0;
    for (const Candidate& c : kept) total += std::exp((c.logit - row.max) * scale);
    double mass = 0;
    for (size_t i = 0; i < kept.size(); ++i) {
      mass += std::exp((kept[i].logit - row.max) * scale);
      if (mass >= static_cast<double>(params.top_p) * total) {
        kept = kept.first(i + 1);
        break;
      }
    }
  }
  return {Draw(kept, row.max, scale, uniform), kept.back()};
}

// The candidates hold the row's maximum, whose weight is 1.
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

Sampler::Choice Sampler::ChooseFromAll(const Row& row, float scale, double uniform) {
  double total = 0;
  chunk_sums_.clear();
  for (int64_t begin = 0; begin < vocab_size_; begin += kDrawChunk) {
    const int64_t size = std::min(kDrawChunk, vocab_size_ - begin);
    chunk_sums_.push_back(ops_.sum_exp(row.logits + begin, size, row.max, scale));
    total += chunk_sums_.back();
  }
  double left = uniform * total;
  size_t chunk = 0;
  for (size_t c = 0; c < chunk_sums_.size(); ++c) {
    if (!(chunk_sums_[c] > 0)) continue;
    chunk = c;
    if (left < chunk_sums_[c]) break;
    left -= chunk_sums_[c];
  }
  const int64_t begin = static_cast<int64_t>(chunk) * kDrawChunk;
  const int64_t end = std::min(begin + kDrawChunk, vocab_size_);
  // The vector sum and this scalar walk may differ in the last bits: past the chunk's end its last
  // possible token is the answer.
  float max;
  int32_t token = static_cast<int32_t>(begin + ops_.argmax(row.logits + begin, end - begin, &max));
  for (int64_t i = begin; i < end; ++i) {
    const double weight = std::exp((row.logits[i] - row.max) * scale);
    if (!(weight > 0)) continue;
    token = static_cast<int32_t>(i);
    left -= weight;
    if (left < 0) break;
  }
  return {token, kEveryToken};
}

Sampler::Choice Sampler::ChooseFromNucleus(const Row& row, const SamplingParams& params,
                                           double uniform) {
  const float scale = 1.0f / params.temperature;
  if (const auto list = selector_.Nucleus(params.top_p, scale); !list.empty()) {
    return {Draw(list, row.max, scale, uniform), list.back()};
  }
  const auto [end, mass] = selector_.NucleusEnd(params.top_p, scale, &weights_);
  double left = uniform * mass;
  int32_t last = end.id;
  for (int64_t i = 0; i < vocab_size_; ++i) {
    const float weight = weights_[static_cast<size_t>(i)];
    if (!(weight > 0) || !IsUpTo(end, row.logits[i], i)) continue;
    last = static_cast<int32_t>(i);
    left -= weight;
    if (left < 0) break;
  }
  return {last, end};
}

// The one place where a processed row is made: all of it, whatever the filters were. What may be
// drawn is above −inf in it.
void Sampler::FillProcessed(const Row& row, const Candidate& last, float temperature) {
  processed_.resize(static_cast<size_t>(vocab_size_));
  for (int64_t i = 0; i < vocab_size_; ++i) {
    const float x = row.logits[i];
    const bool is_kept = x > kMinusInfinity && IsUpTo(last, x, i);
    processed_[static_cast<size_t>(i)] =
        is_kept ? std::max(x / temperature, kLowest) : kMinusInfinity;
  }
}

void Sampler::Report(const float* values, int32_t token, int top_count,
                     std::vector<TokenLogprob>* out) {
  const int64_t count = top_count < 0 ? vocab_size_ : std::min<int64_t>(top_count, vocab_size_);
  const Row row = StartRow(values, std::max<int64_t>(1, count));
  float max = 0, log_sum = 0;
  if (IsNormalized(mode_) && row.max > kMinusInfinity) {
    double sum = 0;
    for (int64_t begin = 0; begin < vocab_size_; begin += kDrawChunk) {
      const int64_t size = std::min(kDrawChunk, vocab_size_ - begin);
      sum += ops_.sum_exp(row.logits + begin, size, row.max, 1.0f);
    }
    max = row.max;
    log_sum = static_cast<float>(std::log(sum));
  }
  const auto add = [&](const Candidate& c, int64_t rank) {
    const float value = (c.logit - max) - log_sum;
    out->push_back({c.id, c.logit > kMinusInfinity ? std::max(value, kLowest) : value, rank});
  };
  out->clear();
  out->reserve(static_cast<size_t>(count + 1));
  const float own = row.logits[token];
  if (own > kMinusInfinity) {
    add({own, token}, ops_.count_at_least(row.logits, vocab_size_, own));
  } else {
    add({kMinusInfinity, token}, vocab_size_);  // as a NaN, too
  }
  if (count == 0) return;
  int64_t rank = 0;
  for (const Candidate& c : selector_.First(count)) add(c, ++rank);
}

}  // namespace tiercel::sampling
