#include "engine/pooling.h"

#include <algorithm>
#include <cmath>

namespace tiercel::engine {
namespace {

// As torch's normalize: what is shorter than 1e-12 is divided by that.
void Normalize(std::vector<float>* values) {
  double sum = 0;
  for (const float v : *values) sum += double{v} * v;
  const auto factor = static_cast<float>(1 / std::max(std::sqrt(sum), 1e-12));
  for (float& v : *values) v *= factor;
}

void Softmax(std::vector<float>* values) {
  const float largest = *std::max_element(values->begin(), values->end());
  double sum = 0;
  for (float& v : *values) sum += v = std::exp(v - largest);
  for (float& v : *values) v = static_cast<float>(v / sum);
}

void Activate(model::Classifier::Activation activation, std::vector<float>* values) {
  switch (activation) {
    case model::Classifier::Activation::kNone: return;
    case model::Classifier::Activation::kSoftmax: return Softmax(values);
    case model::Classifier::Activation::kSigmoid: break;
  }
  for (float& v : *values) v = 1 / (1 + std::exp(-v));
}

// Σ a·b in four sums, so that the additions do not wait for each other.
float Dot(const float* a, const float* b, int64_t n) {
  float sums[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int64_t j = 0; j < 4; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

Status Pooler::Check(const PoolingParams& params) const {
  if (params.classifies() && classifier_ == nullptr) {
    return InvalidArgument("The model gives vectors, not labels.").WithParam("task");
  }
  if (params.dimensions < 0 || params.dimensions > hidden_) {
    return InvalidArgument("dimensions: found {}, expected a number from 1 to {}", params.dimensions,
                           hidden_)
        .WithParam("dimensions");
  }
  return OkStatus();
}

int64_t Pooler::Width(const PoolingParams& params) const {
  if (params.classifies()) return classifier_->num_labels;
  return params.dimensions > 0 ? params.dimensions : hidden_;
}

Status Pooler::Pool(const float* state, const PoolingParams& params,
                    std::vector<float>* out) const {
  out->resize(static_cast<size_t>(Width(params)));
  if (params.classifies()) {
    for (size_t label = 0; label < out->size(); ++label) {
      (*out)[label] = Dot(state, classifier_->weight.data() + static_cast<int64_t>(label) * hidden_,
                          hidden_);
    }
    if (params.use_activation) Activate(classifier_->activation, out);
  } else {
    std::copy_n(state, out->size(), out->begin());
    if (params.use_activation) Normalize(out);
  }
  const bool finite = std::all_of(out->begin(), out->end(), [](float v) { return std::isfinite(v); });
  return finite ? OkStatus() : Internal("The model gave values for this prompt that are not finite.");
}

}  // namespace tiercel::engine
