// Text as the inside of a JSON string.
#pragma once

#include <string>
#include <string_view>

namespace tiercel::text {

// Whether RFC 8259 lets `c` stand in a string only as an escape.
inline bool NeedsJsonEscape(unsigned char c) { return c < 0x20 || c == '"' || c == '\\'; }

// The escape of an ASCII character, whether or not it needs one.
inline void AppendJsonEscape(unsigned char c, std::string* out) {
  switch (c) {
    case '"': out->append("\\\""); return;
    case '\\': out->append("\\\\"); return;
    case '\n': out->append("\\n"); return;
    case '\r': out->append("\\r"); return;
    case '\t': out->append("\\t"); return;
    case '\b': out->append("\\b"); return;
    case '\f': out->append("\\f"); return;
    default: break;
  }
  constexpr char kHex[] = "0123456789abcdef";
  out->append("\\u00");
  out->push_back(kHex[c >> 4]);
  out->push_back(kHex[c & 15]);
}

// Valid UTF-8 stays as it is; quotes, backslashes and control characters are escaped.
inline void AppendJsonEscaped(std::string_view text, std::string* out) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (NeedsJsonEscape(byte)) {
      AppendJsonEscape(byte, out);
    } else {
      out->push_back(c);
    }
  }
}

}  // namespace tiercel::text
