// What a linear's outputs lose by rounded weights.
#pragma once

#include <cstdint>
#include <vector>

#include "model/layer_calibration.h"

namespace tiercel::quantize {

// ‖X·w‖² of rows w, X being the sample of a linear's inputs.
class OutputNorm {
 public:
  // `smooth` (null: 1) divides each feature.
  OutputNorm(const model::LinearInputs& inputs, int64_t k, const std::vector<float>* smooth);

  double Square(const float* w) const;

 private:
  const int64_t k_;
  int64_t tokens_;
  std::vector<float> x_;  // [k, tokens]
};

}  // namespace tiercel::quantize
