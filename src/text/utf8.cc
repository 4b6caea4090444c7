#include "text/utf8.h"

#include <cstdint>

namespace tiercel::text {

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

void AppendCharacter(uint32_t c, std::string* out) {
  const auto tail = [&](int shift) { out->push_back(static_cast<char>(0x80 | (c >> shift & 0x3f))); };
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xc0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xe0 | c >> 12));
    tail(6), tail(0);
  } else {
    out->push_back(static_cast<char>(0xf0 | c >> 18));
    tail(12), tail(6), tail(0);
  }
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
