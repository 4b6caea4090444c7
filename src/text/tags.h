// What the readers of a text that comes in pieces share: tags, and blanks at its front.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel::text {

constexpr std::string_view kThoughtBegin = "<think>";
constexpr std::string_view kThoughtEnd = "</think>";
constexpr std::string_view kCallBegin = "<tool_call>";
constexpr std::string_view kCallEnd = "</tool_call>";

constexpr std::string_view kPythonTag = "<|python_tag|>";  // Llama 3 puts it before calls

constexpr std::string_view kBlanks = " \t\n\r\v\f";
inline bool IsBlank(char c) { return kBlanks.find(c) != std::string_view::npos; }

constexpr size_t kMaxCallName = 1024;  // bytes of a function's or a parameter's name

// How many of the last bytes of `text` may be the beginning of `tag`: the longest proper prefix of it
// that ends the text.
inline size_t PossibleTag(std::string_view text, std::string_view tag) {
  for (size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (text.ends_with(tag.substr(0, size))) return size;
  }
  return 0;
}

// The blanks that a text begins with: they wait until it goes on, since alone they are nothing.
class LeadingBlanks {
 public:
  // Appends `text`, with what has waited before it, to `out`; or lets it wait.
  void Add(std::string_view text, std::string* out) {
    has_passed_ = has_passed_ || text.find_first_not_of(kBlanks) != std::string_view::npos;
    (has_passed_ ? out->append(Take()) : waiting_) += text;
  }
  // What waits; it is forgotten.
  std::string Take() { return std::exchange(waiting_, {}); }

 private:
  std::string waiting_;
  bool has_passed_ = false;
};

}  // namespace tiercel::text
