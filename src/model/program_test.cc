#include "model/program.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/environment.h"
#include "model/dummy_checkpoint.h"
#include "model/qwen3.h"

namespace tiercel::model {
namespace {

ModelConfig Config(int64_t num_layers, int64_t num_kv_heads) {
  ModelConfig config;
  config.hidden_size = 64;
  config.num_layers = num_layers;
  config.num_heads = 6;
  config.num_kv_heads = num_kv_heads;
  config.head_dim = 32;
  config.intermediate_size = 64;
  config.vocab_size = 64;
  config.max_position_embeddings = 64;
  config.tie_word_embeddings = true;
  return config;
}

// Barriers of one recorded step of one sequence.
int64_t Barriers(int64_t num_layers, int64_t num_kv_heads, int workers, int64_t rows,
                 int64_t logit_rows) {
  auto environment =
      kernels::Environment::Create({.threads = workers, .isa = "scalar", .pin = false});
  EXPECT_TRUE(environment.has_value());
  const ModelConfig config = Config(num_layers, num_kv_heads);
  auto weights = LoadWeights(*MakeDummyCheckpoint(config, {}, 1), {}, *(*environment)->team,
                             [](int64_t, int64_t) {});
  EXPECT_TRUE(weights.has_value());
  auto memory = ActivationMemory::Allocate(config, *weights, *(*environment)->kernels, workers,
                                           {2, 32}, {64, 8, 64});
  EXPECT_TRUE(memory.has_value());
  Program program;
  RecordForward(config, *weights, MakeRopeTable(config.rope, config.head_dim, 64), memory->get(),
                {.rows = rows, .seqs = 1, .logit_rows = logit_rows, .head_rows = logit_rows}, &program);
  return program.num_barriers();
}

int64_t BarriersPerLayer(int64_t num_kv_heads, int workers, int64_t rows) {
  return Barriers(3, num_kv_heads, workers, rows, rows) -
         Barriers(2, num_kv_heads, workers, rows, rows);
}

TEST(ForwardProgramTest, DecodeMeetsFourTimesALayer) {
  EXPECT_EQ(BarriersPerLayer(2, 2, 1), 4);
  EXPECT_EQ(BarriersPerLayer(2, 1, kFewRows), 4);
}

TEST(ForwardProgramTest, SharedKvGroupsCostTwoMore) { EXPECT_EQ(BarriersPerLayer(3, 2, 1), 6); }

TEST(ForwardProgramTest, ManyRowsShareOutTheNorms) {
  EXPECT_EQ(BarriersPerLayer(2, 2, kFewRows + 1), 6);
}

// The embedding's barrier alone: the last layer ends with its keys and values.
TEST(ForwardProgramTest, WithoutLogitsTheLastLayerIsNotFinished) {
  EXPECT_EQ(Barriers(1, 2, 2, 1, 0), 1);
}

}  // namespace
}  // namespace tiercel::model
