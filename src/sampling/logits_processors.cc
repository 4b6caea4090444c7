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

size_t TokenCounts::Place(int32_t token) const {
  const size_t mask = slots_.size() - 1;
  size_t i = (static_cast<uint32_t>(token) * 0x9E3779B1u) & mask;
  while (slots_[i].token >= 0 && slots_[i].token != token) i = (i + 1) & mask;
  return i;
}

TokenCounts::Entry& TokenCounts::Find(int32_t token) {
  // At most half full, so that a probe ends soon.
  if (2 * (size_ + 1) > static_cast<int64_t>(slots_.size())) Grow();
  Entry& entry = slots_[Place(token)];
  if (entry.token < 0) {
    entry.token = token;
    ++size_;
  }
  return entry;
}

void TokenCounts::Grow() {
  std::vector<Entry> larger(std::max<size_t>(64, slots_.size() * 2));
  std::swap(slots_, larger);
  for (const Entry& entry : larger) {
    if (entry.token >= 0) slots_[Place(entry.token)] = entry;
  }
}

SamplingContext::SamplingContext(std::shared_ptr<const SamplingParams> given,
                                 std::span<const int32_t> prompt_tokens,
                                 std::span<const int32_t> eos_token_ids)
    : params(std::move(given)) {
  if (params->min_tokens > 0) {
    // Also those eos ids that ignore_eos keeps from ending the sequence, as vLLM does.
    ending_tokens = params->stop_token_ids;
    ending_tokens.insert(ending_tokens.end(), eos_token_ids.begin(), eos_token_ids.end());
  }
  if (params->repetition_penalty != 1.0f) {  // the only one that looks at the prompt
    for (const int32_t token : prompt_tokens) prompt.Add(token);
  }
  for (const auto& word : params->bad_words_token_ids) {
    longest_bad_word = std::max(longest_bad_word, word.size());
  }
}

SequenceState::SequenceState(std::shared_ptr<const SamplingContext> context, uint64_t seed)
    : context_(std::move(context)), seed_(seed),
      constraint_(params().constraint != nullptr ? params().constraint->Start() : nullptr) {
  if (params().has_penalties()) output_.MakeRoom();
  tail_.reserve(context_->longest_bad_word);
}

Expected<std::span<const uint32_t>> SequenceState::AllowedTokens() {
  if (constraint_ == nullptr) return std::span<const uint32_t>();
  RETURN_IF_ERROR(constraint_status_);
  return constraint_->Allowed();
}

bool SequenceState::MasksEndings() const {
  return num_output_tokens_ < params().min_tokens && (constraint_ == nullptr || !constraint_->ended());
}

bool SequenceState::ChangesLogits() const {
  const SamplingParams& p = params();
  return p.allowed_token_ids || context_->longest_bad_word > 0 || !p.logit_bias.empty() ||
         MasksEndings() || p.has_penalties();
}

void SequenceState::ApplyProcessors(std::span<float> logits, std::vector<float>* scratch) const {
  const SamplingParams& p = params();
  if (p.allowed_token_ids) KeepAllowed(logits, *p.allowed_token_ids, scratch);
  if (context_->longest_bad_word > 0) MaskBadWords(logits);
  if (MasksEndings()) {
    for (const int32_t token : context_->ending_tokens) logits[token] = kMasked;
  }
  for (const auto& [token, bias] : p.logit_bias) logits[token] += bias;
  if (p.has_penalties()) Penalize(logits);
}

// A bad word's last token is masked where the output ends in the rest of the word.
void SequenceState::MaskBadWords(std::span<float> logits) const {
  for (const auto& word : params().bad_words_token_ids) {
    const size_t prefix = word.size() - 1;
    if (prefix > tail_.size()) continue;
    if (std::equal(word.begin(), word.end() - 1, tail_.end() - static_cast<int64_t>(prefix))) {
      logits[word.back()] = kMasked;
    }
  }
}

void SequenceState::Penalize(std::span<float> logits) const {
  const SamplingParams& p = params();
  const auto repeat = [&](int32_t token) {
    float& x = logits[token];
    x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
  };
  context_->prompt.ForEach([&](const TokenCounts::Entry& entry) { repeat(entry.token); });
  output_.ForEach([&](const TokenCounts::Entry& entry) {
    if (!context_->prompt.Contains(entry.token)) repeat(entry.token);
    float& x = logits[entry.token];
    x -= p.frequency_penalty * static_cast<float>(entry.count);
    x -= p.presence_penalty;
  });
}

void SequenceState::Append(int32_t token) {
  if (constraint_ != nullptr && constraint_status_.ok()) {
    constraint_status_ = constraint_->Append(token);
  }
  ++num_output_tokens_;
  if (params().has_penalties()) output_.Add(token);
  if (context_->longest_bad_word > 1) {
    if (tail_.size() + 1 == context_->longest_bad_word) tail_.erase(tail_.begin());
    tail_.push_back(token);
  }
}

}  // namespace tiercel::sampling
