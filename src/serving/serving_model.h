// From what a command line asks for to an engine, or several as one, with a loaded model: the way of `serve`, and of all
// commands that run requests in the process.
#pragma once

#include <atomic>
#include <string>

#include "base/status.h"
#include "kernels/environment.h"
#include "options/env_vars.h"
#include "server/loaded_model.h"
#include "serving/serve_config.h"

namespace tiercel::serving {

// `path` is a folder or a .gguf file. What the model's files settle is filled into `config`. The
// environments, one for each engine, outlive the model; `stop` as LoadAll has it.
Expected<server::ServingModel> LoadServingModel(ServeConfig* config, const std::string& path,
                                                const Environ& environ,
                                                const kernels::Environments& environments,
                                                std::atomic<bool>* stop = nullptr);

}  // namespace tiercel::serving
