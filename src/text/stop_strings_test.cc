#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace tiercel::text {
namespace {

// The definitions, by trying every place.
struct Expected {
  size_t end = std::string::npos;
  std::string stop;
};
Expected FirstComplete(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string longest;
    for (const std::string& stop : stops) {
      if (stop.size() > longest.size() && std::string_view(text).substr(0, end).ends_with(stop)) {
        longest = stop;
      }
    }
    if (!longest.empty()) return {end, longest};
  }
  return {};
}
size_t LongestBeginning(const std::string& text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n < stop.size(); ++n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) longest = std::max(longest, n);
    }
  }
  return longest;
}

TEST(StopStrings, FindsWhatTryingEveryPlaceFinds) {
  std::mt19937 random(3);
  // Two letters: strings overlap themselves and each other.
  const auto letters = [&](size_t most) {
    std::string text;
    for (size_t n = 1 + random() % most; n > 0; --n) text += random() % 3 ? 'a' : 'b';
    return text;
  };
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = 1 + random() % 4; n > 0; --n) stops.push_back(letters(7));
    const std::string text = letters(24);
    const Expected expected = FirstComplete(text, stops);
    const StopStrings strings(stops);
    StopSearch search(strings);
    size_t read = 0;
    std::optional<StopSearch::Match> match;
    while (read < text.size() && !match) {
      const size_t length = std::min<size_t>(1 + random() % 3, text.size() - read);
      match = search.Read(std::string_view(text).substr(read, length));
      if (!match) {
        read += length;
        ASSERT_EQ(search.possible(), LongestBeginning(text.substr(0, read), stops)) << text;
      }
    }
    ASSERT_EQ(match ? read + match->end : std::string::npos, expected.end) << text;
    if (match) {
      ASSERT_EQ(match->stop, expected.stop) << text;
    }
  }
}

TEST(StopStrings, NoneFindNothing) {
  const StopStrings none;
  StopSearch search(none);
  EXPECT_FALSE(search.Read("abc"));
  EXPECT_EQ(search.possible(), 0u);
}

}  // namespace
}  // namespace tiercel::text
