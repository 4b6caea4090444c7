// What ranks need beside the weights, from the shapes of the published models.
#include "model/activations.h"

#include <gtest/gtest.h>

#include "kernels/registry.h"
#include "model/rank.h"
#include "platform/cpu_features.h"

namespace tiercel::model {
namespace {

struct Shape {
  const char* name;
  int64_t hidden, layers, heads, intermediate;
};
// Qwen3 dense, from the models' config.json; each with 8 KV heads of 128.
constexpr Shape kShapes[] = {{"0.6B", 1024, 28, 16, 3072}, {"1.7B", 2048, 28, 16, 6144},
                             {"4B", 2560, 36, 32, 9728},   {"8B", 4096, 36, 32, 12288},
                             {"14B", 5120, 40, 40, 17408}, {"32B", 5120, 64, 64, 25600}};
constexpr int kWorkers = 16;  // of all ranks
constexpr int64_t kVocabulary = 151936;

checkpoint::ModelConfig ConfigOf(const Shape& shape) {
  checkpoint::ModelConfig config;
  config.hidden_size = shape.hidden;
  config.num_layers = shape.layers;
  config.num_heads = shape.heads;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.intermediate_size = shape.intermediate;
  config.vocab_size = kVocabulary;
  config.max_position_embeddings = 40960;
  return config;
}

// Bytes of all ranks together, whose linears are of `dtype`.
int64_t BytesOf(const Shape& shape, DType dtype, int ranks) {
  const kernels::KernelTable* const kernels = kernels::RunnableKernels(platform::CpuFeatures::Detect()).front();
  Weights weights;
  weights.layers.resize(static_cast<size_t>(shape.layers));
  for (LayerWeights& layer : weights.layers) layer.qkv.weight.dtype = dtype;
  int64_t bytes = 0;
  for (int r = 0; r < ranks; ++r) {
    const Rank rank = {r, ranks};
    bytes += ActivationMemory::Bytes(PartOf(ConfigOf(shape), rank), weights, *kernels,
                                     {kWorkers / ranks, rank, kVocabulary}, {.num_blocks = 2},
                                     {.max_rows = 8192, .max_seqs = 256, .logit_group_rows = 256});
  }
  return bytes;
}

TEST(ActivationBytesTest, ARankCostsTwentyMegabytes) {
  for (const Shape& shape : kShapes) {
    for (const DType dtype : {DType::kBF16, DType::kI8}) {
      const int64_t one = BytesOf(shape, dtype, 1);
      for (const int ranks : {2, 4, 8}) {
        const int64_t more = (BytesOf(shape, dtype, ranks) - one) / ranks;
        EXPECT_LE(more, 20'000'000) << shape.name << (dtype == DType::kI8 ? " W8A8, " : " BF16, ") << ranks
                                    << " ranks";
      }
    }
  }
}

}  // namespace
}  // namespace tiercel::model
