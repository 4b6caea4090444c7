// From what a command line asks for to an engine, or several as one, with a loaded model: the way of `serve`, and of all
// commands that run requests in the process.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "kernels/environment.h"
#include "model/causal_lm.h"
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

// An engine for each of the environments with a model for each, as one.
Expected<std::unique_ptr<engine::Engine>> MakeEngine(const engine::EngineOptions& options,
                                                     std::span<kernels::Environment* const> environments,
                                                     std::vector<std::unique_ptr<model::CausalLm>> models);

}  // namespace tiercel::serving
