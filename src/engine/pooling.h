// Pooling: what a model without tokens to say makes of its last hidden states: vectors and labels.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "model/classifier.h"

namespace tiercel::engine {

enum class PoolingTask {
  kEmbed,          // the last token's hidden state
  kClassify,       // the last token's labels
  kTokenEmbed,     // every token's hidden state
  kTokenClassify,  // every token's labels
};

struct PoolingParams {
  PoolingTask task = PoolingTask::kEmbed;
  int64_t dimensions = 0;      // of vectors: the first so many values; 0: all
  bool use_activation = true;  // vectors get the length 1, labels their classifier's activation

  bool classifies() const {
    return task == PoolingTask::kClassify || task == PoolingTask::kTokenClassify;
  }
  bool every_token() const {
    return task == PoolingTask::kTokenEmbed || task == PoolingTask::kTokenClassify;
  }
};

// Immutable: all workers use one.
class Pooler {
 public:
  // classifier null: the model gives vectors alone.
  Pooler(int64_t hidden, std::shared_ptr<const model::Classifier> classifier)
      : hidden_(hidden), classifier_(std::move(classifier)) {}

  // The parameters, against the model.
  Status Check(const PoolingParams& params) const;
  int64_t Width(const PoolingParams& params) const;  // values for each token

  // From one token's normed hidden state [hidden] to its Width(params) values. kInternal where these
  // are not all finite. Throws std::bad_alloc.
  Status Pool(const float* state, const PoolingParams& params, std::vector<float>* out) const;

 private:
  const int64_t hidden_;
  const std::shared_ptr<const model::Classifier> classifier_;
};

}  // namespace tiercel::engine
