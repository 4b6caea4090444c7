#include "base/environ.h"

#include <unistd.h>

#include <algorithm>

#include "base/ascii_case.h"

namespace tiercel {

Environ ReadEnviron() {
  Environ all;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string_view::npos) {
      all.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return all;
}

std::string EnvValue(const Environ& environ, std::string_view name) {
  const auto it = environ.find(std::string(name));
  return it == environ.end() ? "" : it->second;
}

std::string CacheHome(const Environ& environ) {
  const std::string xdg = EnvValue(environ, "XDG_CACHE_HOME");
  return xdg.empty() ? EnvValue(environ, "HOME") + "/.cache" : xdg;
}

std::string PlainValue(std::string_view value) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = std::min(value.find_first_not_of(kBlanks), value.size());
  return LowerCase(value.substr(begin, value.find_last_not_of(kBlanks) + 1 - begin));
}

std::optional<bool> ParseSwitch(std::string_view value) {
  const std::string plain = PlainValue(value);
  if (plain == "true" || plain == "yes" || plain == "on") return true;
  if (plain == "false" || plain == "no" || plain == "off") return false;
  if (plain.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return plain.find_first_not_of('0') != std::string::npos;
}

bool EnvIsOn(const Environ& environ, std::string_view name) {
  return ParseSwitch(EnvValue(environ, name)).value_or(false);
}

}  // namespace tiercel
