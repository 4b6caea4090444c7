#include "base/environ.h"

#include <unistd.h>

#include <cctype>

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

bool EnvIsOn(const Environ& environ, std::string_view name) {
  std::string value = EnvValue(environ, name);
  for (char& c : value) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return !value.empty() && value != "0" && value != "false";
}

}  // namespace tiercel
