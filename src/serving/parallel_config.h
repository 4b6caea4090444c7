// How many engines and ranks there are, and where their workers run: the flags of tensor and data
// parallelism, of NUMA binding, and their variables.
#pragma once

#include "base/status.h"
#include "kernels/environment.h"
#include "options/env_vars.h"
#include "options/option_parser.h"
#include "serving/serve_config.h"

namespace tiercel::serving {

// Fills in ServeConfig::environment, the parallel sizes, and the number of the first engine.
Status FillParallel(const ParsedOptions& options, const Environ& environ, ServeConfig* config);

// Of a command without these flags, one engine of one rank: where the variables put its workers. On the CPUs of all ranks if
// they name several.
Expected<kernels::EnvironmentOptions> EnvironmentOfVariables(const Environ& environ);

}  // namespace tiercel::serving
