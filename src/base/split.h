// Text cut into parts, or at its ends.
#pragma once

#include <string_view>
#include <vector>

namespace tiercel {

// Views of `text`, one more than it has separators; empty parts are parts.
std::vector<std::string_view> Split(std::string_view text, char separator);

// Without the `blanks` at either end.
std::string_view Trimmed(std::string_view text, std::string_view blanks);

}  // namespace tiercel
