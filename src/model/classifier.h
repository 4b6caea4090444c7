// Classifier: the linear from a token's last hidden state to labels, of models that classify or rank.
//
// It is kept and multiplied in FP32: a few rows, of which each prompt needs one product.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace tiercel::model {

struct Classifier {
  // What becomes of the labels' values.
  enum class Activation {
    kNone,     // problem_type "regression"
    kSigmoid,  // of each: one label, or problem_type "multi_label_classification"
    kSoftmax,  // over all
  };

  int64_t num_labels = 0;
  std::vector<float> weight;  // [num_labels, hidden]
  Activation activation = Activation::kSigmoid;
};

// The checkpoint's score.weight; or, where config.json names tokens (classifier_from_token, whose ids
// `tokens` are), their rows of the head: each a label, or the second one less the first one.
Expected<Classifier> ReadClassifier(const checkpoint::Checkpoint& checkpoint, std::span<const int32_t> tokens);

}  // namespace tiercel::model
