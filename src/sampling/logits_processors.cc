#include "sampling/logits_processors.h"

#include <algorithm>
#include <limits>

namespace tiercel::sampling {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

// Everything but the allowed tokens becomes −inf. One pass over the row.
void KeepAllowed(std::span<float> logits, const std::vector<int32_t>& allowed,
                 std::vector<float>* scratch) {
  scratch->resize(allowed.size());
  for (size_t i = 0; i < allowed.size(); ++i) (*scratch)[i] = logits[allowed[i]];
  std::fill(logits.begin(), logits.end(), kMasked);
  for (size_t i = 0; i < allowed.size(); ++i) logits[allowed[i]] = (*scratch)[i];
}

}  // namespace

TokenCounts::Entry& TokenCounts::Find(int32_t token) {
  // At most half full, so that a probe ends soon.
  if (2 * (size_ + 1) > static_cast<int64_t>(slots_.size())) Grow();
  const size_t mask = slots_.size() - 1;
  size_t i = (static_cast<uint32_t>(token) * 0x9E3779B1u) & mask;
  while (slots_[i].token >= 0 && slots_[i].token != token) i = (i + 1) & mask;
  if (slots_[i].token < 0) {
    slots_[i].token = token;
    ++size_;
  }
  return slots_[i];
}

void TokenCounts::Grow() {
  std::vector<Entry> old = std::move(slots_);
  slots_.assign(std::max<size_t>(64, old.size() * 2), Entry{});
  size_ = 0;
  for (const Entry& entry : old) {
    if (entry.token >= 0) Find(entry.token).output_count = entry.output_count;
  }
}

SequenceState::SequenceState(std::shared_ptr<const SamplingParams> params,
                             std::span<const int32_t> prompt, uint64_t seed,
                             std::span<const int32_t> eos_token_ids)
    : params_(std::move(params)), seed_(seed) {
  if (params_->min_tokens > 0) {
    // Also those eos ids that ignore_eos keeps from ending the sequence, as vLLM does.
    ending_tokens_ = params_->stop_token_ids;
    ending_tokens_.insert(ending_tokens_.end(), eos_token_ids.begin(), eos_token_ids.end());
  }
  if (params_->repetition_penalty != 1.0f) {  // the only one that looks at the prompt
    for (const int32_t token : prompt) counts_.AddPrompt(token);
  }
  for (const auto& word : params_->bad_words_token_ids) {
    longest_bad_word_ = std::max(longest_bad_word_, word.size());
  }
  tail_.reserve(longest_bad_word_);
}

bool SequenceState::ChangesLogits() const {
  return params_->allowed_token_ids || longest_bad_word_ > 0 || !params_->logit_bias.empty() ||
         num_output_tokens_ < params_->min_tokens || params_->has_penalties();
}

void SequenceState::ApplyProcessors(std::span<float> logits, std::vector<float>* scratch) const {
  if (params_->allowed_token_ids) KeepAllowed(logits, *params_->allowed_token_ids, scratch);
  if (longest_bad_word_ > 0) MaskBadWords(logits);
  if (num_output_tokens_ < params_->min_tokens) {
    for (const int32_t token : ending_tokens_) logits[token] = kMasked;
  }
  for (const auto& [token, bias] : params_->logit_bias) logits[token] += bias;
  if (params_->has_penalties()) Penalize(logits);
}

// A bad word's last token is masked where the output ends in the rest of the word.
void SequenceState::MaskBadWords(std::span<float> logits) const {
  for (const auto& word : params_->bad_words_token_ids) {
    const size_t prefix = word.size() - 1;
    if (prefix > tail_.size()) continue;
    if (std::equal(word.begin(), word.end() - 1, tail_.end() - static_cast<int64_t>(prefix))) {
      logits[word.back()] = kMasked;
    }
  }
}

void SequenceState::Penalize(std::span<float> logits) const {
  const float repetition = params_->repetition_penalty;
  const float frequency = params_->frequency_penalty;
  const float presence = params_->presence_penalty;
  counts_.ForEach([&](const TokenCounts::Entry& entry) {
    float& x = logits[entry.token];
    x = x > 0 ? x / repetition : x * repetition;
    if (entry.output_count > 0) {
      x -= frequency * static_cast<float>(entry.output_count);
      x -= presence;
    }
  });
}

void SequenceState::Append(int32_t token) {
  ++num_output_tokens_;
  if (params_->has_penalties()) counts_.AddOutput(token);
  if (longest_bad_word_ > 1) {
    if (tail_.size() + 1 == longest_bad_word_) tail_.erase(tail_.begin());
    tail_.push_back(token);
  }
}

}  // namespace tiercel::sampling
