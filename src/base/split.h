// Text cut into parts.
#pragma once

#include <string_view>
#include <vector>

namespace tiercel {

// Views of `text`, one more than it has separators; empty parts are parts.
std::vector<std::string_view> Split(std::string_view text, char separator);

}  // namespace tiercel
