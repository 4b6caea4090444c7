// Appending JSON to a string without a document in between: what the token path writes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tiercel::api {

// A quoted string; bytes that are not valid UTF-8 become U+FFFD, control characters are escaped.
void AppendJsonString(std::string* out, std::string_view text);
void AppendJsonInt(std::string* out, int64_t value);
// The shortest digits that read back as the same double; NaN and infinities become null.
void AppendJsonDouble(std::string* out, double value);
void AppendJsonBool(std::string* out, bool value);
void AppendJsonInts(std::string* out, std::span<const int32_t> values);
// Log probabilities: −inf (a masked token) becomes −9999.0, as JSON has no infinities.
void AppendJsonLogprob(std::string* out, float logprob);

// The text with every ill-formed UTF-8 sequence replaced by U+FFFD.
std::string ValidUtf8(std::string_view text);
// Length of the well-formed character at the front of `text` (not empty), 0 if ill-formed.
size_t Utf8CharLength(std::string_view text);

}  // namespace tiercel::api
