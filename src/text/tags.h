// Finding tags in a text that comes in pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace tiercel::text {

constexpr std::string_view kBlanks = " \t\n\r\v\f";

// How many of the last bytes of `text` may be the beginning of `tag`: the longest proper prefix of it
// that ends the text.
inline size_t PossibleTag(std::string_view text, std::string_view tag) {
  for (size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (text.ends_with(tag.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace tiercel::text
