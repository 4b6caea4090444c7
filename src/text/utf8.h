// UTF-8 in pieces: what of a byte string is certain, and the replacement of what is broken.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tiercel::text {

// The length of the longest prefix that more bytes cannot change: all of it, less an unfinished
// but so far valid character at the end (at most 3 bytes).
size_t CompleteUtf8Prefix(std::string_view bytes);

// Appends `bytes` with every maximal invalid part replaced by one U+FFFD (Unicode's "substitution
// of maximal subparts", which Rust's from_utf8_lossy and Python's errors="replace" follow).
void AppendValidUtf8(std::string_view bytes, std::string* out);

}  // namespace tiercel::text
