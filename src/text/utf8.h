// UTF-8 in pieces: what of a byte string is certain, and the one replacement of what is broken.
#pragma once

#include <cstddef>
#include <cstdint>
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
// The well-formed sequences are those of Unicode 15, section 3.9, table 3-7.
inline Utf8Part NextUtf8(std::string_view s) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return {1, true, false};
  size_t length = 0;
  uint8_t low = 0x80, high = 0xbf;  // bounds of the second byte
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;   // no overlong forms
    if (lead == 0xed) high = 0x9f;  // no surrogates
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;  // up to U+10FFFF
  } else {
    return {1, false, false};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == s.size()) return {i, false, true};
    if (at(i) < low || at(i) > high) return {i, false, false};
    low = 0x80;
    high = 0xbf;
  }
  return {length, true, false};
}

// The length of the longest prefix that more bytes cannot change: all of it, less an unfinished
// but so far valid character at the end (at most 3 bytes).
size_t CompleteUtf8Prefix(std::string_view bytes);

// Appends a code point that is no surrogate, at most 0x10ffff.
void AppendCharacter(uint32_t c, std::string* out);

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

// Appends `bytes` with every part that is not valid replaced by one U+FFFD.
void AppendValidUtf8(std::string_view bytes, std::string* out);
std::string ValidUtf8(std::string_view bytes);

}  // namespace tiercel::text
