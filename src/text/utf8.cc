#include "text/utf8.h"

#include <cstdint>

namespace tiercel::text {

// The well-formed sequences are those of Unicode 15, section 3.9, table 3-7.
Utf8Part NextUtf8(std::string_view s) {
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

size_t CompleteUtf8Prefix(std::string_view bytes) {
  // A character has at most 4 bytes: an unfinished one begins within the last 3.
  const size_t first = bytes.size() > 3 ? bytes.size() - 3 : 0;
  for (size_t i = first; i < bytes.size(); ++i) {
    const uint8_t b = static_cast<uint8_t>(bytes[i]);
    if ((b & 0xc0) == 0x80) continue;  // a continuation: belongs to what began before
    const Utf8Part part = NextUtf8(bytes.substr(i));
    if (part.unfinished && i + part.length == bytes.size()) return i;
  }
  return bytes.size();
}

void AppendValidUtf8(std::string_view bytes, std::string* out) {
  size_t valid_begin = 0, i = 0;
  while (i < bytes.size()) {
    const Utf8Part part = NextUtf8(bytes.substr(i));
    if (!part.valid) {
      out->append(bytes, valid_begin, i - valid_begin);
      out->append(kReplacementCharacter);
      valid_begin = i + part.length;
    }
    i += part.length;
  }
  out->append(bytes, valid_begin, bytes.size() - valid_begin);
}

std::string ValidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  AppendValidUtf8(bytes, &out);
  return out;
}

}  // namespace tiercel::text
