// A process of a job of several that is not the first one: it has no API and no engine.
#pragma once

#include "base/environ.h"
#include "serving/serve_config.h"

namespace tiercel::tools {

// Whether this process of the job that the flags ask for is one.
inline bool IsFollower(const serving::ServeConfig& config) { return config.job && !config.job->process.is_first(); }

// Meets the others, loads its part of the model, and computes what the first process does, until that ends; the
// process's exit code. What goes wrong is logged. A signal, which launchers send to all, first lets the first process
// end; a second one ends this one.
int RunFollower(serving::ServeConfig config, const Environ& environ);

}  // namespace tiercel::tools
