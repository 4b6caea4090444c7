// The process's environment variables as a value, so that what reads them is tested without it.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace tiercel {

using Environ = std::map<std::string, std::string>;

Environ ReadEnviron();

// The variable's value, or "" if it is not set.
std::string EnvValue(const Environ& environ, std::string_view name);
// Set to anything but "", 0 and false.
bool EnvIsOn(const Environ& environ, std::string_view name);

}  // namespace tiercel
