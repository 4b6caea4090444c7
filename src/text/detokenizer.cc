#include "text/detokenizer.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace tiercel::text {
namespace {

struct Match {
  size_t begin = std::string::npos;
  const std::string* stop = nullptr;
};

// The stop string that is complete first (ends earliest; of those the longest, which begins first).
Match FindStop(const std::string& text, const std::vector<std::string>& stops) {
  Match best;
  size_t best_end = std::string::npos;
  for (const std::string& stop : stops) {
    const size_t begin = text.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < best_end || (end == best_end && begin < best.begin)) {
      best = {begin, &stop};
      best_end = end;
    }
  }
  return best;
}

// How many bytes at the end of `text` may be the beginning of a stop string.
size_t PossibleStop(std::string_view text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    const size_t longest = std::min(stop.size() - 1, text.size());
    for (size_t n = longest; n > held; --n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) {
        held = n;
        break;
      }
    }
  }
  return held;
}

}  // namespace

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, DetokenizerOptions options)
    : tokenizer_(std::move(tokenizer)), options_(std::move(options)) {}

std::string Detokenizer::Append(int32_t token) {
  ++num_tokens_;
  if (!(options_.skip_special_tokens && tokenizer_->IsSpecial(token))) {
    pending_bytes_ += tokenizer_->TokenBytes(token);
  }
  const size_t complete = CompleteUtf8Prefix(pending_bytes_);
  AppendValidUtf8(std::string_view(pending_bytes_).substr(0, complete), &held_text_);
  pending_bytes_.erase(0, complete);
  if (options_.stop.empty() || num_tokens_ < options_.min_tokens) {
    return std::exchange(held_text_, {});
  }
  if (const Match match = FindStop(held_text_, options_.stop); match.stop != nullptr) {
    matched_stop_ = *match.stop;
    held_text_.resize(match.begin +
                      (options_.include_stop_str_in_output ? match.stop->size() : 0));
    pending_bytes_.clear();
    return std::exchange(held_text_, {});
  }
  const size_t held = PossibleStop(held_text_, options_.stop);
  std::string delta = held_text_.substr(0, held_text_.size() - held);
  held_text_.erase(0, delta.size());
  return delta;
}

std::string Detokenizer::Finish() {
  AppendValidUtf8(std::exchange(pending_bytes_, {}), &held_text_);
  return std::exchange(held_text_, {});
}

}  // namespace tiercel::text
