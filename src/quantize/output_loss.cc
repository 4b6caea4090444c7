#include "quantize/output_loss.h"

#include "base/bf16.h"

namespace tiercel::quantize {

OutputNorm::OutputNorm(const model::LinearInputs& inputs, int64_t k, const std::vector<float>* smooth)
    : k_(k), tokens_(std::ssize(inputs.sample) / k), x_(inputs.sample.size()) {
  for (int64_t t = 0; t < tokens_; ++t) {
    for (int64_t i = 0; i < k; ++i) {
      const float x = ToFloat(inputs.sample[static_cast<size_t>(t * k + i)]);
      x_[static_cast<size_t>(i * tokens_ + t)] = smooth == nullptr ? x : x / (*smooth)[static_cast<size_t>(i)];
    }
  }
}

double OutputNorm::Square(const float* w) const {
  std::vector<float> y(static_cast<size_t>(tokens_), 0.0f);
  for (int64_t i = 0; i < k_; ++i) {
    const float* const x = x_.data() + i * tokens_;
    for (int64_t t = 0; t < tokens_; ++t) y[static_cast<size_t>(t)] += w[i] * x[t];
  }
  double sum = 0;
  for (const float value : y) sum += double{value} * double{value};
  return sum;
}

}  // namespace tiercel::quantize
