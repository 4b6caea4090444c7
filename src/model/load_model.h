// LoadModel: from an opened checkpoint to a model that can run.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "kernels/environment.h"
#include "model/causal_lm.h"
#include "model/cpu_causal_lm.h"
#include "model/weight_prefetch.h"
#include "model/weights.h"

namespace tiercel::model {

struct LoadOptions {
  GraphOptions graph = {};  // capture sizes are resolved in Prepare, when the limits are known
  WeightPrefetch prefetch = {};
  WeightOptions weights = {};
  std::shared_ptr<comm::Transport> transport = {};  // of weights.process; null: this process is alone
};

// Checks that the kernels can run the configuration, loads the weights on environment's team, and
// returns the model. The checkpoint is not needed afterwards; `environment` outlives the model.
// For load_format "dummy" open the checkpoint with OpenDummyCheckpoint.
Expected<std::unique_ptr<CausalLm>> LoadModel(const checkpoint::Checkpoint& checkpoint,
                                              const LoadOptions& options,
                                              kernels::Environment* environment,
                                              LoadProgress progress);

// The weights for each of several environments. Those whose workers run on the same NUMA nodes, one by one, share
// them: each node has one copy, and their work is divided as the first of them has it.
struct LoadedWeights {
  checkpoint::ModelConfig config;
  std::vector<SharedWeights> each;  // by environment
};

// For environments with teams of as many ranks and workers.
Expected<LoadedWeights> LoadSharedWeights(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                                          std::span<kernels::Environment* const> environments,
                                          LoadProgress progress);

// A model for each of the environments that the weights were loaded for, as often as wanted: weights are only read.
std::vector<std::unique_ptr<CausalLm>> MakeModels(const LoadedWeights& weights, const LoadOptions& options,
                                                  std::span<kernels::Environment* const> environments);

// Both.
Expected<std::vector<std::unique_ptr<CausalLm>>> LoadModels(const checkpoint::Checkpoint& checkpoint,
                                                            const LoadOptions& options,
                                                            std::span<kernels::Environment* const> environments,
                                                            LoadProgress progress);

}  // namespace tiercel::model
