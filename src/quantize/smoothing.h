// Smoothing (Xiao et al. 2023): an input feature of a linear is divided, and its weight column multiplied, by
//   s = max|x|^α / max|w|^(1 − α)
// so that outliers of the inputs become smaller and the weights take over their size.
#pragma once

#include <cstddef>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "model/layer_calibration.h"
#include "platform/worker_team.h"

namespace tiercel::quantize {

// A layer's s of each linear's inputs, all > 0; all empty: none. What is divided by s is folded into what
// comes before the linear: the norms before qkv and gate_up, the rows of v_proj (`v`, shared by the query
// heads of a group, makes `o`), the rows of up_proj (`down`).
struct LayerSmoothing {
  std::vector<float> qkv, v, o, gate_up, down;
};

// `inputs` are the layer's, in calibration.
Expected<LayerSmoothing> FindSmoothing(const checkpoint::Checkpoint& checkpoint,
                                       platform::WorkerTeam* team, int64_t layer,
                                       const model::LayerInputs& inputs, double alpha);

// The channel of v that o's input i comes from.
size_t ValueChannel(const checkpoint::ModelConfig& config, size_t i);

// Calls body(row, worker) for the rows [0, n), shared out among the workers; the first error counts.
Status ForRows(platform::WorkerTeam* team, int64_t n,
               FunctionRef<Status(int64_t row, int worker)> body);

}  // namespace tiercel::quantize
