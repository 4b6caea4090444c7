#include "api/json_writer.h"

#include <charconv>
#include <cmath>

namespace tiercel::api {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

void AppendEscaped(std::string* out, unsigned char c) {
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

bool IsPlain(unsigned char c) { return c >= 0x20 && c != '"' && c != '\\' && c < 0x7f; }

}  // namespace

// The table of well-formed sequences, Unicode 15 section 3.9 (table 3-7).
size_t Utf8CharLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto within = [&](size_t i, unsigned low, unsigned high) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return within(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : 0xBF;
    return within(1, low, high) && within(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xF4 ? 0x8F : 0xBF;
    return within(1, low, high) && within(2, 0x80, 0xBF) && within(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

void AppendJsonString(std::string* out, std::string_view text) {
  out->push_back('"');
  size_t begin = 0;
  size_t i = 0;
  while (i < text.size()) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (IsPlain(c)) {
      ++i;
      continue;
    }
    out->append(text, begin, i - begin);
    const size_t length = Utf8CharLength(text.substr(i));
    if (length > 1) {
      out->append(text, i, length);
      i += length;
    } else {
      if (length == 0) {
        out->append(kReplacement);
      } else {
        AppendEscaped(out, c);
      }
      ++i;
    }
    begin = i;
  }
  out->append(text, begin, text.size() - begin);
  out->push_back('"');
}

std::string ValidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = Utf8CharLength(text.substr(i));
    if (length == 0) {
      out.append(kReplacement);
      ++i;
    } else {
      out.append(text, i, length);
      i += length;
    }
  }
  return out;
}

void AppendJsonInt(std::string* out, int64_t value) {
  char buffer[24];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  out->append(buffer, result.ptr);
}

void AppendJsonDouble(std::string* out, double value) {
  if (!std::isfinite(value)) {
    out->append("null");
    return;
  }
  char buffer[40];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  const std::string_view digits(buffer, static_cast<size_t>(result.ptr - buffer));
  out->append(digits);
  // As Python writes it: a whole number stays visibly a float.
  if (digits.find_first_of(".e") == std::string_view::npos) out->append(".0");
}

void AppendJsonBool(std::string* out, bool value) { out->append(value ? "true" : "false"); }

void AppendJsonInts(std::string* out, std::span<const int32_t> values) {
  out->push_back('[');
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out->push_back(',');
    AppendJsonInt(out, values[i]);
  }
  out->push_back(']');
}

void AppendJsonLogprob(std::string* out, float logprob) {
  AppendJsonDouble(out, logprob >= -9999.0f ? logprob : -9999.0f);
}

}  // namespace tiercel::api
