// Environment variables of vLLM and its Ascend plugin: which of them mean something here.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::tools {

using Environ = std::map<std::string, std::string>;

// The process's environment.
Environ ReadEnviron();

// The variable's value, or "" if it is not set.
std::string EnvValue(const Environ& environ, std::string_view name);
// Set to anything but "", 0 and false.
bool EnvIsOn(const Environ& environ, std::string_view name);

struct EnvReport {
  std::vector<std::string> notices;  // known, and without effect here
  std::vector<std::string> unknown;  // VLLM_* that nothing knows
};
EnvReport CheckEnviron(const Environ& environ);

}  // namespace tiercel::tools
