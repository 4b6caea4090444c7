#include "api/json_writer.h"

#include <charconv>
#include <cmath>

#include "text/json_escape.h"
#include "text/utf8.h"

namespace tiercel::api {

namespace {

// DEL is escaped too: it is no character to show.
bool IsPlain(unsigned char c) { return c < 0x7f && !text::NeedsJsonEscape(c); }

}  // namespace

void AppendJsonString(std::string* out, std::string_view value) {
  out->push_back('"');
  size_t begin = 0;
  size_t i = 0;
  while (i < value.size()) {
    const auto c = static_cast<unsigned char>(value[i]);
    if (IsPlain(c)) {
      ++i;
      continue;
    }
    out->append(value, begin, i - begin);
    if (c < 0x80) {
      text::AppendJsonEscape(c, out);
      begin = ++i;
      continue;
    }
    const text::Utf8Part part = text::NextUtf8(value.substr(i));
    out->append(part.valid ? value.substr(i, part.length) : text::kReplacementCharacter);
    begin = i += part.length;
  }
  out->append(value, begin, value.size() - begin);
  out->push_back('"');
}

void AppendJsonStringOrNull(std::string* out, const std::optional<std::string>& value) {
  if (value) {
    AppendJsonString(out, std::string_view(*value));
  } else {
    out->append("null");
  }
}

void AppendJsonInt(std::string* out, int64_t value) {
  char buffer[24];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  out->append(buffer, result.ptr);
}

namespace {

template <typename Number>
void AppendReal(std::string* out, Number value) {
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

}  // namespace

void AppendJsonDouble(std::string* out, double value) { AppendReal(out, value); }
void AppendJsonFloat(std::string* out, float value) { AppendReal(out, value); }

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
