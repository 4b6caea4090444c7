// What every error message of a fuzzed parser must be: one line.
#pragma once

#include <string_view>

#include "base/check.h"
#include "base/status.h"

namespace tiercel::fuzz {

inline void ExpectOneLine(std::string_view message) {
  CHECK(message.find('\n') == std::string_view::npos);
}
template <typename T>
void ExpectOneLineError(const Expected<T>& result) {
  if (!result) ExpectOneLine(result.error().message());
}

}  // namespace tiercel::fuzz
