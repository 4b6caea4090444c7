#include "model/weight_prefetch.h"

#include <gtest/gtest.h>

namespace tiercel::model {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

PackedMatrix Matrix(int64_t n, int64_t k, DType dtype) {
  PackedMatrix m;
  m.dtype = dtype;
  m.n = n;
  m.k = m.k_padded = k;
  return m;
}

// qkv 8 MiB, o 4 MiB of INT8, gate_up 64 MiB, down 32 MiB, lm_head 256 MiB.
Weights SomeWeights() {
  Weights weights;
  weights.layers.resize(1);
  weights.layers[0].qkv.weight = Matrix(2048, 2048, DType::kBF16);
  weights.layers[0].o.weight = Matrix(2048, 2048, DType::kI8);
  weights.layers[0].gate_up.weight = Matrix(16384, 2048, DType::kBF16);
  weights.layers[0].down.weight = Matrix(2048, 8192, DType::kBF16);
  weights.lm_head.weight = Matrix(65536, 2048, DType::kBF16);
  return weights;
}

TEST(WeightPrefetchTest, RatiosOfEachMatrixUpToTheCap) {
  const WeightPrefetch options{.enabled = true, .qkv = 0.5, .o = 0.25, .gate_up = 1, .down = 0};
  const PrefetchBytes bytes = PlanPrefetch(options, SomeWeights(), 2, 0);
  EXPECT_EQ(bytes.qkv, 4 * kMiB);
  EXPECT_EQ(bytes.o, 1 * kMiB);
  EXPECT_EQ(bytes.gate_up, kMaxPrefetchBytes);
  EXPECT_EQ(bytes.down, 0);
  EXPECT_EQ(bytes.lm_head, kMaxPrefetchBytes);
}

TEST(WeightPrefetchTest, NoMoreThanHalfOfTheCaches) {
  const PrefetchBytes bytes = PlanPrefetch({.enabled = true}, SomeWeights(), 2, 2 * kMiB);
  EXPECT_EQ(bytes.gate_up, 2 * kMiB);
  EXPECT_EQ(bytes.o, 2 * kMiB);
}

TEST(WeightPrefetchTest, TheMlpsOwnCaps) {
  const WeightPrefetch options{.enabled = true, .gate_up_bytes = kMiB, .down_bytes = 0};
  const PrefetchBytes bytes = PlanPrefetch(options, SomeWeights(), 2, 0);
  EXPECT_EQ(bytes.gate_up, kMiB);
  EXPECT_EQ(bytes.down, 0);
  EXPECT_EQ(bytes.qkv, 8 * kMiB);
}

TEST(WeightPrefetchTest, OffByDefault) {
  const PrefetchBytes bytes = PlanPrefetch({}, SomeWeights(), 2, 2 * kMiB);
  EXPECT_EQ(bytes.qkv + bytes.o + bytes.gate_up + bytes.down + bytes.lm_head, 0);
}

}  // namespace
}  // namespace tiercel::model
