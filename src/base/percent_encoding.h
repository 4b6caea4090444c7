// Percent-encoding, RFC 3986 section 2.1.
#pragma once

#include <string>
#include <string_view>

namespace tiercel {

// "%41b" is "Ab"; what is no escape stays.
std::string PercentDecoded(std::string_view text);

}  // namespace tiercel
