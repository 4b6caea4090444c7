// What recording a step takes, for models of 28 and 64 layers: every step with a prefill in it pays this
// before its first operator. Args: layers, rows, workers.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/check.h"
#include "kernels/attention_work.h"
#include "kernels/registry.h"
#include "model/qwen3.h"
#include "platform/cpu_features.h"

namespace tiercel::model {
namespace {

constexpr int64_t kHidden = 1024, kIntermediate = 3072, kVocab = 151936;
constexpr int kKvHeads = 8, kHeadDim = 128;

checkpoint::ModelConfig Config(int64_t num_layers) {
  checkpoint::ModelConfig config;
  config.hidden_size = kHidden;
  config.num_layers = num_layers;
  config.num_heads = 2 * kKvHeads;
  config.num_kv_heads = kKvHeads;
  config.head_dim = kHeadDim;
  config.intermediate_size = kIntermediate;
  config.vocab_size = kVocab;
  config.max_position_embeddings = 4096;
  return config;
}

// Matrices that nobody reads: recording looks at shapes alone, and at whether the embedding is packed.
const BF16 kNoTable[1] = {};

Linear Shape(int64_t n, int64_t k, int64_t granule, int workers, DType dtype) {
  Linear linear;
  linear.weight = {nullptr, dtype, n, k, k, granule, workers};
  if (dtype == DType::kI8) {
    linear.input.kind = checkpoint::InputKind::kPerToken;
    linear.acc_bias.resize(n);
    linear.scale.resize(n);
  }
  return linear;
}

Weights WeightShapes(const checkpoint::ModelConfig& config, int workers, DType dtype) {
  const NormWeights norm{std::vector<float>(kHidden), {}};
  LayerWeights layer;
  layer.input_norm = layer.post_attention_norm = norm;
  const bool owned = kernels::AttentionOwnsGroups(kKvHeads, {0, workers});
  layer.qkv = Shape(4 * kKvHeads * kHeadDim, kHidden, owned ? 4 * kHeadDim : kColumnGroup, workers, dtype);
  layer.o = Shape(kHidden, 2 * kKvHeads * kHeadDim, kColumnGroup, workers, dtype);
  layer.gate_up = Shape(2 * kIntermediate, kHidden, 2 * kColumnGroup, workers, dtype);
  layer.down = Shape(kHidden, kIntermediate, kColumnGroup, workers, dtype);
  Weights weights;
  weights.embedding = kNoTable;
  weights.layers.assign(config.num_layers, layer);
  weights.final_norm = norm;
  weights.lm_head = Shape(kVocab, kHidden, kColumnGroup, workers, DType::kBF16);
  return weights;
}

void RecordStep(benchmark::State& state, DType dtype) {
  const checkpoint::ModelConfig config = Config(state.range(0));
  const int64_t rows = state.range(1);
  const int workers = static_cast<int>(state.range(2));
  const Weights weights = WeightShapes(config, workers, dtype);
  const RopeTable rope = MakeRopeTable(config.rope, config.head_dim, 4096);
  const kernels::KernelTable* const kernels = kernels::RunnableKernels({}).front();
  const auto memory = ActivationMemory::Allocate(
      config, weights, *kernels, {workers}, {.num_blocks = 2},
      {.max_rows = rows, .max_seqs = 8, .logit_group_rows = 8, .max_context = 4096});
  CHECK(memory.has_value());
  Program program;
  const StepShape shape{.rows = rows, .seqs = 8, .logit_rows = 8, .head_rows = 8,
                        .prefetch = {1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20}};
  for (auto _ : state) RecordForward(config, weights, rope, memory->get(), shape, &program);
  state.counters["operators"] = static_cast<double>(program.size());
  state.counters["barriers"] = static_cast<double>(program.num_barriers());
}

void Arguments(benchmark::internal::Benchmark* b) {
  b->ArgNames({"layers", "rows", "workers"});
  b->Args({28, 8, 2})->Args({28, 1024, 2})->Args({28, 1024, 64})->Args({64, 1024, 2});
  b->Unit(benchmark::kMicrosecond);
}
BENCHMARK_CAPTURE(RecordStep, bf16, DType::kBF16)->Apply(Arguments);
BENCHMARK_CAPTURE(RecordStep, w8a8, DType::kI8)->Apply(Arguments);

}  // namespace
}  // namespace tiercel::model

BENCHMARK_MAIN();
