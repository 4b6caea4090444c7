// ModelQuantizer: writes a float checkpoint as one of the Ascend quantizer's, layer by layer.
//
// Weights: symmetric INT8, one scale per output row, max|w| / 127. Static inputs: one scale and
// offset for all tokens, from the least and largest value seen in calibration (zero included).
// Smoothing before it: tools/smoothing.h.
//
// With the scheme W8A8 a linear whose inputs one scale does not fit (outliers of a few tokens that
// leave the others few steps) is written as W8A8_DYNAMIC.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/environment.h"
#include "model/checkpoint.h"
#include "tools/static_input.h"

namespace tiercel::tools {

enum class QuantScheme { kStatic, kDynamic, kMix };  // W8A8, W8A8_DYNAMIC, W8A8_MIX

struct QuantizeOptions {
  QuantScheme scheme = QuantScheme::kDynamic;
  double smooth = 0;                 // α; 0: none. Needs calibration
  // kStatic: inputs that lose more than this (InputLoss::one_scale) are quantized per token. 1: none.
  double static_loss = 0.1;
  bool kv_int8 = false;              // scales for an INT8 KV cache (C8), too. Needs calibration
  std::vector<std::string> exclude;  // patterns with * of linears that stay float
  // Token ids, each sequence at most LayerCalibration::kMaxTokens long; empty: no calibration.
  std::vector<std::vector<int32_t>> calibration;
};

// One linear's outcome, for the table, after smoothing.
struct LinearError {
  std::string name;   // "self_attn.q_proj"
  double error = -1;  // of the weights, ‖w − ŵ‖ / ‖w‖; < 0: float
  InputLoss inputs;   // zeros if not calibrated
  bool per_token = false;
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
