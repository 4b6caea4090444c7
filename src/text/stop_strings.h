// StopStrings: the strings that end a text, and the search for all of them at once in a text that
// comes in pieces. Each byte is looked at once for each string, whatever was held back before it
// (Knuth, Morris, Pratt).
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::text {

// Immutable; one set serves every choice of an answer.
class StopStrings {
 public:
  StopStrings() = default;
  explicit StopStrings(std::vector<std::string> strings);       // none empty
  StopStrings(std::initializer_list<std::string_view> strings)  // NOLINT: a list is a set
      : StopStrings(std::vector<std::string>(strings.begin(), strings.end())) {}

  bool empty() const { return patterns_.empty(); }

 private:
  friend class StopSearch;
  struct Pattern {
    std::string text;
    // [i]: of the first i bytes, the length of the longest proper prefix that is a suffix as well.
    std::vector<uint32_t> border;
  };
  std::vector<Pattern> patterns_;
};

// One reading of a text.
class StopSearch {
 public:
  explicit StopSearch(const StopStrings& strings);  // which outlives this

  struct Match {
    size_t end = 0;         // bytes of the piece up to the end of the stop string
    std::string_view stop;  // lives as long as the StopStrings
  };
  // Reads on. The stop string that is complete first ends the search; of those that are complete
  // with the same byte it is the longest.
  std::optional<Match> Read(std::string_view piece);

  // How many of the last bytes read may be the beginning of a stop string.
  size_t possible() const;

 private:
  const StopStrings* strings_;
  std::vector<uint32_t> matched_;  // by string: how much of it ends the text
};

}  // namespace tiercel::text
