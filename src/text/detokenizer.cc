#include "text/detokenizer.h"

#include <utility>

#include "text/utf8.h"

namespace tiercel::text {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, const DetokenizerOptions& options)
    : tokenizer_(tokenizer), options_(options), search_(options.stop) {}

std::string Detokenizer::Append(int32_t token) {
  ++num_tokens_;
  if (!(options_.skip_special_tokens && tokenizer_.IsSpecial(token))) {
    pending_bytes_ += tokenizer_.TokenBytes(token);
  }
  const size_t complete = CompleteUtf8Prefix(pending_bytes_);
  const size_t held_before = held_text_.size();
  AppendValidUtf8(std::string_view(pending_bytes_).substr(0, complete), &held_text_);
  pending_bytes_.erase(0, complete);
  if (options_.stop.empty() || num_tokens_ < options_.min_tokens) {
    return std::exchange(held_text_, {});
  }
  if (const auto match = search_.Read(std::string_view(held_text_).substr(held_before))) {
    matched_stop_ = match->stop;
    const size_t end = held_before + match->end;
    held_text_.resize(options_.include_stop_str_in_output ? end : end - match->stop.size());
    return std::exchange(held_text_, {});
  }
  std::string delta = held_text_.substr(0, held_text_.size() - search_.possible());
  held_text_.erase(0, delta.size());
  return delta;
}

std::string Detokenizer::Finish() { return std::exchange(held_text_, {}); }

}  // namespace tiercel::text
