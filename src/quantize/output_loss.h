// What a linear's weights and outputs lose by rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "model/layer_calibration.h"
#include "quantize/layer_linears.h"

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

// Sums of squares over rows: one for each worker, then all together.
class RoundingLoss {
 public:
  // `rounded` stands for the row w of its length. `outputs` may be null.
  void Add(const float* w, const std::vector<float>& rounded, const OutputNorm* outputs);
  static void Report(const std::vector<RoundingLoss>& workers, bool outputs, LinearError* error);

 private:
  double lost_ = 0, norm_ = 0, output_lost_ = 0, output_norm_ = 0;
};

}  // namespace tiercel::quantize
