// ModelQuantizer: writes a float checkpoint as one of the Ascend quantizer's, layer by layer.
//
// Weights: symmetric INT8, one scale per output row, max|w| / 127. Static inputs: one scale and
// offset for all tokens, from the least and largest value seen in calibration (zero included).
// Smoothing (Xiao et al. 2023): an input feature is divided, and its weight column multiplied, by
//   s = max|x|^α / max|w|^(1 − α)
// folded into what comes before it: the norms before q, k, v and gate, up; v before o; up before
// down.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/environment.h"
#include "model/checkpoint.h"

namespace tiercel::tools {

enum class QuantScheme { kStatic, kDynamic, kMix };  // W8A8, W8A8_DYNAMIC, W8A8_MIX

struct QuantizeOptions {
  QuantScheme scheme = QuantScheme::kDynamic;
  double smooth = 0;                 // α; 0: none. Needs calibration
  std::vector<std::string> exclude;  // patterns with * of linears that stay float
  // Token ids, each sequence at most LayerCalibration::kMaxTokens long; empty: no calibration.
  std::vector<std::vector<int32_t>> calibration;
  int64_t part_bytes = int64_t{4} << 30;
};

// One linear's outcome, for the table: the weights' relative error ‖w − ŵ‖ / ‖w‖ after smoothing.
struct LinearError {
  std::string name;   // "self_attn.q_proj"
  double error = -1;  // < 0: float
};

struct QuantizeCallbacks {
  std::function<void(int64_t done, int64_t total)> progress;  // bytes of the float weights
  std::function<void(int64_t layer, const std::vector<LinearError>& errors)> layer;
};

// Writes weights, index and quant_model_description.json into `folder`, which exists. Memory: one
// layer's weights, and with calibration the residual stream of its tokens.
Status QuantizeModel(const model::Checkpoint& checkpoint, const QuantizeOptions& options,
                     kernels::Environment* environment, const std::string& folder,
                     const QuantizeCallbacks& callbacks);

}  // namespace tiercel::tools
