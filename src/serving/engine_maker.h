// EngineMaker: engines of one model in one process, by one configuration after the other. What a tuner measures with.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "base/environ.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "kernels/environment.h"
#include "model/load_model.h"
#include "serving/serve_config.h"

namespace tiercel::serving {

// One thread at a time.
class EngineMaker {
 public:
  // `path` is the model's folder or .gguf file. Once *stop is set (it may be null), loading ends early.
  EngineMaker(std::string path, Environ environ, const std::atomic<bool>* stop)
      : path_(std::move(path)), environ_(std::move(environ)), stop_(stop) {}

  // The engine made before is gone by then. Weights are loaded if the configuration needs them in another form, or for
  // other ranks or engines, than those that are kept: the last ones, and those before them where memory has room.
  Expected<std::unique_ptr<engine::Engine>> Make(const ServeConfig& config);

  int64_t loads() const { return loads_; }  // of weights, so far

 private:
  // Weights, and the teams that they are for.
  struct Kept {
    model::WeightOptions weights;
    int ranks = 1, engines = 1;
    kernels::Environments environments;
    model::LoadedWeights loaded;
  };

  Expected<Kept*> Find(const ServeConfig& config);
  void MakeRoom();

  const std::string path_;
  const Environ environ_;
  const std::atomic<bool>* const stop_;
  std::list<Kept> kept_;  // the last used first
  int64_t loads_ = 0;
};

}  // namespace tiercel::serving
