// AWQ (Lin et al. 2023): before weights are rounded to four bits, those of inputs that are large on average are scaled up,
// and so lose less of what counts, by s = mean|x|^α, or by that ÷ size(w)^(1 − α), as inputs whose weights are small in their
// groups lose the most. What comes before the linear is divided by s, as in smoothing.
#pragma once

#include <cstdint>
#include <string>

#include "base/function_ref.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "model/layer_calibration.h"
#include "platform/worker_team.h"
#include "quantize/smoothing.h"

namespace tiercel::quantize {

// A layer's s, of the geometric middle 1. size(w) is the mean over rows of |w| ÷ the largest of its group. Linears with one input
// share an s, that of the forty with α = 0, 0.05 … 0.95 with which their outputs on the sample of `inputs` lose least when each weight is rounded to the nearest, in groups of `group`. Of linears of which none
// is `rounded` there are none.
Expected<LayerSmoothing> FindAwqScales(const checkpoint::Checkpoint& checkpoint, platform::WorkerTeam* team, int64_t layer,
                                       const model::LayerInputs& inputs, int64_t group,
                                       FunctionRef<bool(const std::string& linear)> rounded);

}  // namespace tiercel::quantize
