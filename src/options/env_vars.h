// Environment variables of vLLM and its Ascend plugin: which of them mean something here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/environ.h"
#include "base/log.h"
#include "base/status.h"

namespace tiercel::options {

// Whether every variable that is read as a switch, a number or a level holds one; blanks around it do
// not count, and an empty one counts as not set. The message names the variable, what was found and
// what was expected. EnvIsOn and the readers below are for variables that have passed.
Status CheckEnvironValues(const Environ& environ);
std::optional<int64_t> EnvInt(const Environ& environ, std::string_view name);
std::optional<double> EnvFloat(const Environ& environ, std::string_view name);

// A level by its name in any case, as --log-level and VLLM_LOGGING_LEVEL take it; "" is info.
std::optional<LogLevel> ParseLogLevel(std::string_view name);
LogLevel EnvLogLevel(const Environ& environ);

struct EnvReport {
  std::vector<std::string> notices;  // known, and without effect here
  std::vector<std::string> unknown;  // VLLM_* that nothing knows
};
EnvReport CheckEnviron(const Environ& environ);

}  // namespace tiercel::options
