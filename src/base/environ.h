// The process's environment variables as a value, so that what reads them is tested without it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel {

using Environ = std::map<std::string, std::string>;

Environ ReadEnviron();

// The variable's value, or "" if it is not set.
std::string EnvValue(const Environ& environ, std::string_view name);
// The folder for what can be made again: XDG_CACHE_HOME, or ~/.cache.
std::string CacheHome(const Environ& environ);
// A value in small letters, without blanks around it.
std::string PlainValue(std::string_view value);
// An integer (on unless it is 0), or true, yes, on, false, no, off in any case; "" is off. Nothing if
// it is none of these.
std::optional<bool> ParseSwitch(std::string_view value);
// Whether the variable's value is on; one that is no switch is off.
bool EnvIsOn(const Environ& environ, std::string_view name);

}  // namespace tiercel
