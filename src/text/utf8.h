// UTF-8 in pieces: what of a byte string is certain, and the one replacement of what is broken.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tiercel::text {

// What stands at the front of a byte string: a character, or a part that belongs to none.
struct Utf8Part {
  size_t length = 1;        // bytes that belong together
  bool valid = false;       // a whole character
  bool unfinished = false;  // the bytes ended within a so far valid character
};
// `bytes` is not empty. A part that is not valid is what one U+FFFD stands for: the longest
// beginning of a well-formed character, or one byte (Unicode's "substitution of maximal subparts",
// which Rust's from_utf8_lossy and Python's errors="replace" follow).
Utf8Part NextUtf8(std::string_view bytes);

// The length of the longest prefix that more bytes cannot change: all of it, less an unfinished
// but so far valid character at the end (at most 3 bytes).
size_t CompleteUtf8Prefix(std::string_view bytes);

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

// Appends `bytes` with every part that is not valid replaced by one U+FFFD.
void AppendValidUtf8(std::string_view bytes, std::string* out);
std::string ValidUtf8(std::string_view bytes);

}  // namespace tiercel::text
