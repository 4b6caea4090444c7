// From what a command line asks for to an engine with a loaded model: the way of `serve`, and of all
// commands that run requests in the process.
#pragma once

#include <string>

#include "base/status.h"
#include "kernels/environment.h"
#include "options/env_vars.h"
#include "server/loaded_model.h"
#include "serving/serve_config.h"

namespace tiercel::serving {

// `path` is a folder or a .gguf file. What the model's files settle is filled into `config`. The
// environment outlives the model.
Expected<server::ServingModel> LoadServingModel(ServeConfig* config, const std::string& path,
                                                const Environ& environ,
                                                kernels::Environment* environment);

}  // namespace tiercel::serving
