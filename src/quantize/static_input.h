// One scale and offset for all tokens of a linear's input, and what they cost.
#pragma once

#include <vector>

#include "model/layer_calibration.h"

namespace tiercel::quantize {

// q = clamp(round(x / scale) + offset, −128, 127).
struct StaticInput {
  float scale = 1;
  float offset = 0;
};

// From the least to the largest value seen, zero included. `smooth` (null: 1) divides each feature.
StaticInput StaticInputOf(const model::ChannelRanges& ranges, const std::vector<float>* smooth);

// The mean over tokens of ‖x − x̂‖ / ‖x‖.
struct InputLoss {
  double one_scale = 0;  // as StaticInput
  double per_token = 0;  // max|x| / 127 of each token
};

InputLoss LossOf(const model::LinearInputs& inputs, const std::vector<float>* smooth);

}  // namespace tiercel::quantize
