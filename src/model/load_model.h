// LoadModel: from an opened checkpoint to a model that can run.
#pragma once

#include <memory>

#include "base/status.h"
#include "kernels/environment.h"
#include "model/causal_lm.h"
#include "model/checkpoint.h"
#include "model/cpu_causal_lm.h"
#include "model/weight_prefetch.h"
#include "model/weights.h"

namespace tiercel::model {

struct LoadOptions {
  GraphOptions graph;  // capture sizes are resolved in Prepare, when the limits are known
  WeightPrefetch prefetch;
  WeightOptions weights;
};

// Checks that the kernels can run the configuration, loads the weights on environment's team, and
// returns the model. The checkpoint is not needed afterwards; `environment` outlives the model.
// For load_format "dummy" open the checkpoint with OpenDummyCheckpoint.
Expected<std::unique_ptr<CausalLm>> LoadModel(const Checkpoint& checkpoint,
                                              const LoadOptions& options,
                                              kernels::Environment* environment,
                                              LoadProgress progress);

}  // namespace tiercel::model
