// Byte strings and what Python 3 makes of them; for the tests of every place that decodes.
#pragma once

#include <string>
#include <string_view>

namespace tiercel::text {

struct Utf8Case {
  const char* hex;
  const char* whole;  // bytes.decode("utf-8", "replace"), with "?" for U+FFFD
  const char* piece;  // codecs.getincrementaldecoder("utf-8")("replace").decode(bytes): more may come

  std::string bytes() const {
    std::string out;
    const std::string_view text = hex;
    for (size_t i = 0; i + 1 < text.size(); i += 3) {
      out.push_back(static_cast<char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
    }
    return out;
  }
};

// No case has a question mark of its own.
inline std::string WithReplacements(std::string_view shown) {
  std::string out;
  for (const char c : shown) {
    if (c == '?') {
      out += "\xef\xbf\xbd";
    } else {
      out += c;
    }
  }
  return out;
}

inline constexpr Utf8Case kUtf8Cases[] = {
    {"", "", ""},
    {"61 62 63", "abc", "abc"},
    {"c3 a9 e5 ae a2 f0 9f 8c b6", "é客🌶", "é客🌶"},
    {"ff", "?", "?"},
    {"c3", "?", ""},
    {"c3 28", "?(", "?("},
    {"e5 ae", "?", ""},
    {"e5 ae 28", "?(", "?("},
    {"e5 ae e5 ae a2", "?客", "?客"},
    {"f0 9f 8c", "?", ""},
    {"f0 9f 8c 28", "?(", "?("},
    {"f0 9f 28", "?(", "?("},
    {"f0 28", "?(", "?("},
    {"ed a0 80", "???", "???"},
    {"ed 9f bf", "\xed\x9f\xbf", "\xed\x9f\xbf"},
    {"c0 80", "??", "??"},
    {"c1 bf", "??", "??"},
    {"e0 80 80", "???", "???"},
    {"e0 a0 80", "ࠀ", "ࠀ"},
    {"e0 9f bf", "???", "???"},
    {"f0 8f bf bf", "????", "????"},
    {"f0 90 80 80", "𐀀", "𐀀"},
    {"f4 8f bf bf", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
    {"f4 90 80 80", "????", "????"},
    {"f5 80 80 80", "????", "????"},
    {"80", "?", "?"},
    {"80 80 bf", "???", "???"},
    {"61 c3", "a?", "a"},
    {"61 f0 9f 8c b6 f0 9f 8c", "a🌶?", "a🌶"},
    {"f8 88 80 80 80", "?????", "?????"},
    {"fe ff", "??", "??"},
    {"c3 c3 a9", "?é", "?é"},
    {"e2 82 e2 82 ac e2", "?€?", "?€"},
    {"f1 80 80 e2 82 ac", "?€", "?€"},
};

}  // namespace tiercel::text
