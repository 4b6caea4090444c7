#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace tiercel::text {

namespace {

// How much of `text` ends what was read, once `c` comes after `matched` bytes of it.
uint32_t Advance(std::string_view text, const std::vector<uint32_t>& border, uint32_t matched,
                 char c) {
  while (matched > 0 && text[matched] != c) matched = border[matched];
  return text[matched] == c ? matched + 1 : 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> strings) {
  patterns_.reserve(strings.size());
  for (std::string& text : strings) {
    std::vector<uint32_t> border(text.size() + 1);
    for (size_t i = 1; i < text.size(); ++i) {
      border[i + 1] = Advance(text, border, border[i], text[i]);
    }
    patterns_.push_back({std::move(text), std::move(border)});
  }
}

StopSearch::StopSearch(const StopStrings& strings)
    : strings_(&strings), matched_(strings.patterns_.size()) {}

std::optional<StopSearch::Match> StopSearch::Read(std::string_view piece) {
  const std::vector<StopStrings::Pattern>& patterns = strings_->patterns_;
  for (size_t i = 0; i < piece.size(); ++i) {
    std::string_view found;
    for (size_t p = 0; p < patterns.size(); ++p) {
      const std::string& text = patterns[p].text;
      matched_[p] = Advance(text, patterns[p].border, matched_[p], piece[i]);
      if (matched_[p] == text.size() && text.size() > found.size()) found = text;
    }
    if (!found.empty()) return Match{i + 1, found};
  }
  return std::nullopt;
}

size_t StopSearch::possible() const {
  return matched_.empty() ? 0 : *std::max_element(matched_.begin(), matched_.end());
}

}  // namespace tiercel::text
