// Text as the inside of a JSON string.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace tiercel::text {

// Valid UTF-8 stays as it is; quotes, backslashes and control characters are escaped.
inline void AppendJsonEscaped(std::string_view text, std::string* out) {
  for (const char c : text) {
    switch (c) {
      case '"': out->append("\\\""); break;
      case '\\': out->append("\\\\"); break;
      case '\n': out->append("\\n"); break;
      case '\r': out->append("\\r"); break;
      case '\t': out->append("\\t"); break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          char escape[8];
          std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
          out->append(escape);
        } else {
          out->push_back(c);
        }
    }
  }
}

}  // namespace tiercel::text
