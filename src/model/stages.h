// Which of a model's layers the stages of a pipeline have.
#pragma once

#include "base/status.h"
#include "checkpoint/config.h"
#include "model/weights.h"
#include "tensor/packed_matrix.h"

namespace tiercel::model {

// Whether options.stages, and options.stage_layers if they are given, fit the model.
Status CheckStages(const checkpoint::ModelConfig& config, const WeightOptions& options);

// Those of a stage: as many as options.stage_layers says; by default such that every stage reads about as much in a step
// of decodes, where the last one reads the head as well. What fits has been checked.
Range LayersOf(const checkpoint::ModelConfig& config, const WeightOptions& options, int stage);

}  // namespace tiercel::model
