#include "quantize/static_input.h"

#include <algorithm>
#include <cmath>

namespace tiercel::quantize {

StaticInput StaticInputOf(const model::ChannelRanges& ranges, const std::vector<float>* smooth) {
  float min = 0, max = 0;  // zero must be exact
  for (size_t i = 0; i < ranges.min.size(); ++i) {
    const float s = smooth == nullptr ? 1.0f : (*smooth)[i];
    min = std::min(min, ranges.min[i] / s);
    max = std::max(max, ranges.max[i] / s);
  }
  StaticInput input;
  input.scale = std::max((max - min) / 255.0f, 1e-30f);
  input.offset = std::clamp(std::nearbyint(-min / input.scale) - 128.0f, -128.0f, 127.0f);
  return input;
}

InputLoss LossOf(const model::LinearInputs& inputs, const std::vector<float>* smooth) {
  const size_t k = inputs.ranges.min.size();
  const size_t tokens = inputs.sample.size() / k;
  const StaticInput input = StaticInputOf(inputs.ranges, smooth);
  std::vector<float> x(k);
  InputLoss loss;
  for (size_t t = 0; t < tokens; ++t) {
    float largest = 0;
    double norm = 0;
    for (size_t i = 0; i < k; ++i) {
      x[i] = ToFloat(inputs.sample[t * k + i]) / (smooth == nullptr ? 1.0f : (*smooth)[i]);
      largest = std::max(largest, std::fabs(x[i]));
      norm += double{x[i]} * x[i];
    }
    if (norm == 0) continue;
    const auto lost = [&](float scale, float offset) {
      double sum = 0;
      for (const float value : x) {
        const float q = std::clamp(std::nearbyint(value / scale) + offset, -128.0f, 127.0f);
        const double difference = value - (q - offset) * scale;
        sum += difference * difference;
      }
      return std::sqrt(sum / norm) / static_cast<double>(tokens);
    };
    loss.one_scale += lost(input.scale, input.offset);
    loss.per_token += lost(largest / 127.0f, 0);
  }
  return loss;
}

}  // namespace tiercel::quantize
