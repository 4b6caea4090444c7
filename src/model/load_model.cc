#include "model/load_model.h"

#include <string>
#include <utility>

#include "base/log.h"

namespace tiercel::model {
namespace {

// What the operators take beyond what a configuration may say.
Status CheckRunnable(const ModelConfig& c) {
  if (c.head_dim % 32 != 0 || c.head_dim > kernels::kMaxHeadDim) {
    return Unimplemented("head_dim: found {}, expected a multiple of 32 up to {}", c.head_dim,
                         kernels::kMaxHeadDim);
  }
  if (c.hidden_size % kColumnGroup != 0) {
    return Unimplemented("hidden_size: found {}, expected a multiple of {}", c.hidden_size,
                         kColumnGroup);
  }
  if (c.num_heads % c.num_kv_heads != 0) {
    return InvalidArgument("num_attention_heads: found {}, expected a multiple of "
                           "num_key_value_heads ({})",
                           c.num_heads, c.num_kv_heads);
  }
  return OkStatus();
}

}  // namespace

Expected<std::unique_ptr<CausalLm>> LoadModel(const Checkpoint& checkpoint,
                                              const LoadOptions& options,
                                              kernels::Environment* environment,
                                              LoadProgress progress) {
  RETURN_IF_ERROR(CheckRunnable(checkpoint.config()));
  for (const std::string& notice : checkpoint.quantization().notices()) LOG_WARNING("{}", notice);
  const std::string quantization = DescribeQuantization(checkpoint, options.weights);
  if (!quantization.empty()) LOG_INFO("Quantization: {}", quantization);
  ASSIGN_OR_RETURN(Weights weights,
                   LoadWeights(checkpoint, options.weights, *environment->team, progress));
  return std::make_unique<CpuCausalLm>(checkpoint.config(), std::move(weights), options.graph,
                                       options.prefetch, environment);
}

}  // namespace tiercel::model
