#include "model/classifier.h"

#include <string>

#include "checkpoint/tensor_reader.h"

namespace tiercel::model {
namespace {

Status ReadHeadRows(const checkpoint::Checkpoint& checkpoint, std::span<const int32_t> tokens,
                    Classifier* classifier) {
  const checkpoint::ModelConfig& config = checkpoint.config();
  const int64_t hidden = config.hidden_size;
  const std::string name =
      config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  RETURN_IF_ERROR(checkpoint::CheckTensor(checkpoint, name, {config.vocab_size, hidden}));
  std::vector<float> rows(tokens.size() * static_cast<size_t>(hidden));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int32_t token = tokens[i];
    if (token < 0 || token >= config.vocab_size) {
      return InvalidArgument("classifier_from_token: {} has the id {}, expected one below vocab_size ({})",
                             config.pooling.classifier_from_token[i], token, config.vocab_size);
    }
    RETURN_IF_ERROR(checkpoint.ReadRows(name, token, token + 1,
                                        rows.data() + i * static_cast<size_t>(hidden)));
  }
  if (std::ssize(tokens) == classifier->num_labels) {
    classifier->weight = std::move(rows);
    return OkStatus();
  }
  // softmax(no, yes) = sigmoid(yes − no)
  classifier->weight.resize(static_cast<size_t>(hidden));
  for (int64_t i = 0; i < hidden; ++i) classifier->weight[i] = rows[hidden + i] - rows[i];
  return OkStatus();
}

}  // namespace

Expected<Classifier> ReadClassifier(const checkpoint::Checkpoint& checkpoint, std::span<const int32_t> tokens) {
  const checkpoint::ModelConfig& config = checkpoint.config();
  const checkpoint::PoolingConfig& pooling = config.pooling;
  Classifier classifier;
  classifier.num_labels = pooling.num_labels;
  if (pooling.regression) {
    classifier.activation = Classifier::Activation::kNone;
  } else if (pooling.num_labels > 1 && !pooling.multi_label) {
    classifier.activation = Classifier::Activation::kSoftmax;
  }
  if (!tokens.empty()) {
    RETURN_IF_ERROR(ReadHeadRows(checkpoint, tokens, &classifier));
    return classifier;
  }
  const int64_t hidden = config.hidden_size;
  RETURN_IF_ERROR(checkpoint::CheckTensor(checkpoint, "score.weight", {pooling.num_labels, hidden}));
  classifier.weight.resize(static_cast<size_t>(pooling.num_labels * hidden));
  RETURN_IF_ERROR(
      checkpoint.ReadRows("score.weight", 0, pooling.num_labels, classifier.weight.data()));
  return classifier;
}

}  // namespace tiercel::model
