// What can be said of serve's flags and variables before they are turned into options.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "options/env_vars.h"
#include "options/option_parser.h"

namespace tiercel::serving {

using options::ParsedOptions;

// Flags that ask for what is not there are refused; a warning names each one without effect.
Status CheckEffects(const ParsedOptions& options, std::vector<std::string>* warnings);

// Refuses what is not offered and what does not go together, with vLLM's messages; adds a warning
// for each flag and variable without effect.
Status CheckServeOptions(const ParsedOptions& options, const Environ& environ,
                         std::vector<std::string>* warnings);

}  // namespace tiercel::serving
