// Appending JSON to a string without a document in between: what the token path writes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tiercel::api {

// A quoted string; control characters are escaped, what is not valid UTF-8 is replaced (text/utf8.h).
void AppendJsonString(std::string* out, std::string_view value);
// null for nothing.
void AppendJsonStringOrNull(std::string* out, const std::optional<std::string>& value);
void AppendJsonInt(std::string* out, int64_t value);
// The shortest digits that read back as the same double; NaN and infinities become null.
void AppendJsonDouble(std::string* out, double value);
void AppendJsonFloat(std::string* out, float value);  // of the same float
void AppendJsonBool(std::string* out, bool value);
void AppendJsonInts(std::string* out, std::span<const int32_t> values);
// Log probabilities: −inf (a masked token) becomes −9999.0, as JSON has no infinities.
void AppendJsonLogprob(std::string* out, float logprob);

}  // namespace tiercel::api
