#include "sampling/token_selection.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace tiercel::sampling {
namespace {

// Chunks of 64 … 512 floats: short enough that their maxima tell the tokens apart, long enough
// that a call per chunk costs little.
constexpr int64_t kMinChunk = 64;
constexpr int64_t kMaxChunk = 512;

// exp(x) for x ≤ 0 with a relative error below 3e-7, in a form that compilers vectorize:
// 2^i by the exponent bits, 2^f by its Taylor polynomial on [−0.5, 0.5]. Below −87, and for NaN, 0.
inline float FastExp(float x) {
  const bool normal = x > -87.0f;
  const float y = (normal ? x : -87.0f) * 1.44269504f;
  // Adding 1.5 · 2²³ leaves no fraction bits: rounds to nearest without a call.
  const float i = (y + 12582912.0f) - 12582912.0f;
  const float f = (y - i) * 0.693147181f;
  float p = 1.0f / 720;
  p = p * f + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  const float value = p * std::bit_cast<float>((static_cast<int32_t>(i) + 127) << 23);
  return normal ? value : 0.0f;
}

}  // namespace

TokenSelector::TokenSelector(const VectorOps& ops, int64_t vocab_size) : ops_(ops), n_(vocab_size) {
  const size_t chunks = static_cast<size_t>((n_ + kMinChunk - 1) / kMinChunk);
  chunk_max_.reserve(chunks);
  order_.reserve(chunks);
  indices_.resize(static_cast<size_t>(n_));
  candidates_.reserve(static_cast<size_t>(n_));
}

float TokenSelector::Start(const float* row, int64_t k) {
  row_ = row;
  // About two chunks for each wanted token: then few chunks hold more than one of them.
  chunk_ = std::clamp(static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(
                          std::max<int64_t>(1, n_ / (2 * std::max<int64_t>(1, k)))))),
                      kMinChunk, kMaxChunk);
  chunk_max_.clear();
  max_ = kMinusInfinity;
  for (int64_t begin = 0; begin < n_; begin += chunk_) {
    float max;
    ops_.argmax(row + begin, std::min(chunk_, n_ - begin), &max);
    chunk_max_.push_back(max);
    max_ = std::max(max_, max);
  }
  return max_;
}

float TokenSelector::KthLargestChunk(int64_t k) {
  if (k > static_cast<int64_t>(chunk_max_.size())) return kMinusInfinity;
  order_.assign(chunk_max_.begin(), chunk_max_.end());
  std::nth_element(order_.begin(), order_.begin() + (k - 1), order_.end(), std::greater<>());
  return order_[static_cast<size_t>(k - 1)];
}

void TokenSelector::Collect(float threshold) {
  const int64_t count = ops_.collect_at_least(row_, n_, threshold, indices_.data(), n_);
  candidates_.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    candidates_[static_cast<size_t>(i)] = {row_[indices_[static_cast<size_t>(i)]],
                                           indices_[static_cast<size_t>(i)]};
  }
}

// The tokens with logit ≥ floor among which the first k are, these k in front. A row may be masked
// nearly everywhere: what is at −inf would be all of it, so floor is above that.
void TokenSelector::CollectFirst(int64_t k, float floor) {
  Collect(std::max(floor, KthLargestChunk(k)));
  if (static_cast<int64_t>(candidates_.size()) > k) {
    std::nth_element(candidates_.begin(), candidates_.begin() + (k - 1), candidates_.end(),
                     Precedes);
  }
}

std::span<const Candidate> TokenSelector::First(int64_t k) {
  CollectFirst(k, kLowest);
  if (static_cast<int64_t>(candidates_.size()) > k) candidates_.resize(static_cast<size_t>(k));
  std::sort(candidates_.begin(), candidates_.end(), Precedes);
  for (int64_t i = 0; i < n_ && static_cast<int64_t>(candidates_.size()) < k; ++i) {
    if (!(row_[i] >= kLowest)) candidates_.push_back({kMinusInfinity, static_cast<int32_t>(i)});
  }
  return candidates_;
}

std::span<const Candidate> TokenSelector::TopK(int64_t k, float floor) {
  CollectFirst(k, std::max(floor, kLowest));
  if (static_cast<int64_t>(candidates_.size()) > k) {
    const auto behind = candidates_.begin() + k;
    const float kth = candidates_[static_cast<size_t>(k - 1)].logit;
    candidates_.erase(std::partition(behind, candidates_.end(),
                                     [kth](const Candidate& c) { return c.logit == kth; }),
                      candidates_.end());
  }
  std::sort(candidates_.begin(), candidates_.end(), Precedes);
  return candidates_;
}

std::span<const Candidate> TokenSelector::AtLeast(float floor) {
  Collect(floor);
  return candidates_;
}

std::span<const Candidate> TokenSelector::Nucleus(float p, float scale) {
  double total = 0;
  for (int64_t begin = 0; begin < n_; begin += chunk_) {
    // A chunk far below the maximum adds nothing that a double could show: exp(−45) < 2⁻⁶⁴.
    if ((chunk_max_[static_cast<size_t>(begin / chunk_)] - max_) * scale < -45.0f) continue;
    total += ops_.sum_exp(row_ + begin, std::min(chunk_, n_ - begin), max_, scale);
  }
  const std::span<const Candidate> first = First(kNucleusList);
  double mass = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    mass += std::exp((first[i].logit - max_) * scale);
    if (mass >= static_cast<double>(p) * total) return first.first(i + 1);
  }
  return {};
}

TokenSelector::Set TokenSelector::NucleusEnd(float p, float scale, std::vector<float>* weights) {
  weights->resize(static_cast<size_t>(n_));
  float* w = weights->data();
  constexpr int64_t kStrip = 64;  // a fixed count, so that compilers vectorize the inner loop
  int64_t done = 0;
  for (; done + kStrip <= n_; done += kStrip) {
    for (int64_t i = 0; i < kStrip; ++i) w[done + i] = FastExp((row_[done + i] - max_) * scale);
  }
  for (; done < n_; ++done) w[done] = FastExp((row_[done] - max_) * scale);

  // Buckets by distance from the maximum; the last one takes everything below e⁻³².
  constexpr int kBuckets = 2048;
  constexpr float kRange = 32.0f;
  std::array<double, kBuckets> mass{};
  const float to_bucket = scale * (static_cast<float>(kBuckets) / kRange);
  const auto bucket_of = [&](float x) {
    const float distance = (max_ - x) * to_bucket;
    return distance < kBuckets - 1 ? static_cast<int>(distance) : kBuckets - 1;
  };
  double total = 0;
  for (int64_t i = 0; i < n_; ++i) {
    mass[static_cast<size_t>(bucket_of(row_[i]))] += w[i];
    total += w[i];
  }
  const double wanted = static_cast<double>(p) * total;
  double before = 0;
  int bucket = 0;
  while (bucket < kBuckets - 1 && before + mass[static_cast<size_t>(bucket)] < wanted) {
    before += mass[static_cast<size_t>(bucket++)];
  }
  // Within the bucket where the share is reached the order decides.
  candidates_.clear();
  for (int64_t i = 0; i < n_; ++i) {
    if (w[i] > 0 && bucket_of(row_[i]) == bucket) candidates_.push_back({row_[i], static_cast<int32_t>(i)});
  }
  std::sort(candidates_.begin(), candidates_.end(), Precedes);
  for (const Candidate& candidate : candidates_) {
    before += w[candidate.id];
    if (before >= wanted) return {candidate, before};
  }
  // Rounding kept the sum below the share: everything that has a weight belongs to the set.
  return {{kLowest, static_cast<int32_t>(n_)}, before};
}

}  // namespace tiercel::sampling
