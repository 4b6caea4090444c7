// Blanks as Python's str.strip takes them: Unicode's white space and the four separators of ASCII.
#pragma once

#include <string_view>

namespace tiercel::text {

std::string_view LeftStripped(std::string_view text);
std::string_view RightStripped(std::string_view text);
inline std::string_view Stripped(std::string_view text) { return LeftStripped(RightStripped(text)); }

}  // namespace tiercel::text
