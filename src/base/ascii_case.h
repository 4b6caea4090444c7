// ASCII letters in lower case, whatever the locale; other bytes stay.
#pragma once

#include <string>
#include <string_view>

namespace tiercel {

constexpr char LowerCase(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string LowerCase(std::string_view text);

bool EqualsNoCase(std::string_view a, std::string_view b);

}  // namespace tiercel
