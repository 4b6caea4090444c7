// JSON values of flags as text: checked, merged and rewritten without the JSON library's types
// leaving this file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tiercel::options {

// `text` as compact JSON. Errors name line and column. An object, or a list of strings, is asked for.
Expected<std::string> NormalizeJsonObject(const std::string& text);
Expected<std::vector<std::string>> ParseJsonStringList(const std::string& text);

// Sets `path` ("a.b.c") in the object `json` to `value`: JSON if it reads as such, else a string.
// With `append` the path names a list and each part of `value` between commas is added to it.
Expected<std::string> SetJsonPath(const std::string& json, std::string_view path,
                                  const std::string& value, bool append);

// RFC 7396 without deletion: members of `over` replace those of `base`, objects are merged.
Expected<std::string> MergeJson(const std::string& base, const std::string& over);

// `text` as a JSON string literal, quotes included.
std::string JsonQuote(std::string_view text);

bool IsUtf8(std::string_view text);

}  // namespace tiercel::options
