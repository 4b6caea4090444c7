#include "options/human_int.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>

namespace tiercel::options {
namespace {

constexpr std::string_view kSuffixes = "kmgt";

}  // namespace

Expected<int64_t> ParseInt(const std::string& text) {
  int64_t value = 0;
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || at != end || begin == end) {
    return Unexpected(InvalidArgument("invalid int value: '{}'", text));
  }
  return value;
}

Expected<double> ParseFloat(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || end != text.c_str() + text.size() || !std::isfinite(value)) {
    return Unexpected(InvalidArgument("invalid float value: '{}'", text));
  }
  return value;
}

Expected<int64_t> ParseHumanInt(const std::string& text) {
  if (text.empty()) return ParseInt(text);
  const char last = text.back();
  const bool capital = last >= 'A' && last <= 'Z';
  const size_t power = kSuffixes.find(capital ? static_cast<char>(last - 'A' + 'a') : last);
  if (power == std::string_view::npos) return ParseInt(text);

  const std::string digits = text.substr(0, text.size() - 1);
  if (digits.empty() || digits.find_first_not_of("0123456789.") != std::string::npos) {
    return Unexpected(InvalidArgument("invalid int value: '{}'", text));
  }
  if (capital && digits.find('.') != std::string::npos) {
    return Unexpected(InvalidArgument(
        "Decimals are not allowed with binary suffixes like {0}. Did you mean to use {1}{2} "
        "instead?",
        last, digits, kSuffixes[power]));
  }
  auto number = ParseFloat(digits);
  if (!number) return Unexpected(InvalidArgument("invalid int value: '{}'", text));
  const double value = *number * std::pow(capital ? 1024.0 : 1000.0, power + 1.0);
  if (value >= 9.2e18) return Unexpected(InvalidArgument("invalid int value: '{}'", text));
  return static_cast<int64_t>(std::llround(value));
}

}  // namespace tiercel::options
