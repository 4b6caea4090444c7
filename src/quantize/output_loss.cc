#include "quantize/output_loss.h"

#include <cmath>

#include "base/bf16.h"

namespace tiercel::quantize {
namespace {

double Relative(double lost, double norm) { return norm > 0 ? std::sqrt(lost / norm) : 0; }

}  // namespace

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

void RoundingLoss::Add(const float* w, const std::vector<float>& rounded, const OutputNorm* outputs) {
  std::vector<float> difference(rounded.size());
  for (size_t i = 0; i < rounded.size(); ++i) {
    difference[i] = w[i] - rounded[i];
    lost_ += double{difference[i]} * double{difference[i]};
    norm_ += double{w[i]} * double{w[i]};
  }
  if (outputs == nullptr) return;
  output_lost_ += outputs->Square(difference.data());
  output_norm_ += outputs->Square(w);
}

void RoundingLoss::Report(const std::vector<RoundingLoss>& workers, bool outputs, LinearError* error) {
  RoundingLoss all;
  for (const RoundingLoss& l : workers) {
    all.lost_ += l.lost_;
    all.norm_ += l.norm_;
    all.output_lost_ += l.output_lost_;
    all.output_norm_ += l.output_norm_;
  }
  error->error = Relative(all.lost_, all.norm_);
  if (outputs) error->output_error = Relative(all.output_lost_, all.output_norm_);
}

}  // namespace tiercel::quantize
