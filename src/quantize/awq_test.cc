#include "quantize/awq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/bf16.h"
#include "checkpoint/dummy_checkpoint.h"

namespace tiercel::quantize {
namespace {

constexpr int64_t kHidden = 64, kInner = 128, kGroup = 32, kTokens = 24;
constexpr int64_t kHeads = 4, kKvHeads = 2, kHead = 32;

checkpoint::ModelConfig Config() {
  checkpoint::ModelConfig config;
  config.hidden_size = kHidden;
  config.num_layers = 2;
  config.num_heads = kHeads;
  config.num_kv_heads = kKvHeads;
  config.head_dim = kHead;
  config.intermediate_size = kInner;
  config.vocab_size = 32;
  config.max_position_embeddings = 64;
  return config;
}

// A few inputs are far larger than the others.
model::LinearInputs Inputs(int64_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> size(static_cast<size_t>(k));
  for (float& s : size) s = random() % 8 == 0 ? 20.0f : std::exp(normal(random));
  model::LinearInputs inputs;
  for (int64_t i = 0; i < kTokens * k; ++i) {
    inputs.sample.push_back(ToBF16(size[static_cast<size_t>(i % k)] * normal(random)));
  }
  return inputs;
}

model::LayerInputs LayerInputs() {
  model::LayerInputs inputs;
  inputs.qkv = Inputs(kHidden, 1);
  inputs.o = Inputs(kHeads * kHead, 2);
  inputs.gate_up = Inputs(kHidden, 3);
  inputs.down = Inputs(kInner, 4);
  return inputs;
}

std::vector<double> Means(const model::LinearInputs& inputs, int64_t k) {
  std::vector<double> means(static_cast<size_t>(k));
  for (int64_t i = 0; i < kTokens * k; ++i) means[i % k] += std::abs(double{ToFloat(inputs.sample[i])}) / kTokens;
  return means;
}

std::vector<float> Weights(const checkpoint::Checkpoint& checkpoint, const std::string& linear, int64_t k) {
  const std::string name = "model.layers.1." + linear + ".weight";
  const int64_t n = checkpoint.Find(name)->shape[0];
  std::vector<float> w(static_cast<size_t>(n * k));
  EXPECT_TRUE(checkpoint.ReadRows(name, 0, n, w.data()).ok());
  return w;
}

// How large an input's weights are in their groups: the mean of |w| ÷ the largest over all rows.
std::vector<double> Sizes(const checkpoint::Checkpoint& checkpoint, const std::vector<std::string>& linears, int64_t k) {
  std::vector<double> sizes(static_cast<size_t>(k));
  double rows = 0;
  for (const std::string& linear : linears) {
    const std::vector<float> w = Weights(checkpoint, linear, k);
    for (int64_t r = 0; r < std::ssize(w) / k; ++r, ++rows) {
      for (int64_t i = 0; i < k; ++i) {
        double largest = 0;
        for (int64_t j = 0; j < kGroup; ++j) largest = std::max(largest, std::abs(double{w[r * k + i / kGroup * kGroup + j]}));
        sizes[i] += std::abs(double{w[r * k + i]}) / largest;
      }
    }
  }
  for (double& size : sizes) size /= rows;
  return sizes;
}

// What the outputs lose when W · s is rounded and divided by s, in doubles: the largest of a group becomes −8.
double Loss(const checkpoint::Checkpoint& checkpoint, const std::vector<std::string>& linears,
            const model::LinearInputs& inputs, const std::vector<double>& s) {
  const auto k = std::ssize(s);
  double loss = 0;
  for (const std::string& linear : linears) {
    const std::vector<float> w = Weights(checkpoint, linear, k);
    for (int64_t r = 0; r < std::ssize(w) / k; ++r) {
      std::vector<double> lost(static_cast<size_t>(k));
      for (int64_t g = 0; g < k; g += kGroup) {
        double largest = 0;
        for (int64_t i = g; i < g + kGroup; ++i) {
          if (std::abs(w[r * k + i] * s[i]) > std::abs(largest)) largest = w[r * k + i] * s[i];
        }
        const double step = double{ToFloat(ToBF16(static_cast<float>(largest / -8)))};
        for (int64_t i = g; i < g + kGroup; ++i) {
          lost[i] = w[r * k + i] - step * std::clamp(std::nearbyint(w[r * k + i] * s[i] / step), -8.0, 7.0) / s[i];
        }
      }
      for (int64_t t = 0; t < kTokens; ++t) {
        double y = 0;
        for (int64_t i = 0; i < k; ++i) y += lost[i] * double{ToFloat(inputs.sample[t * k + i])};
        loss += y * y;
      }
    }
  }
  return loss;
}

// `found` is one of the twenty powers of the means, by themselves or each over its rest to 1 of the weights' sizes, and none of
// them loses less but by what floats round.
void ExpectBest(const checkpoint::Checkpoint& checkpoint, const std::vector<std::string>& linears,
                const model::LinearInputs& inputs, const std::vector<double>& means, const std::vector<double>& sizes,
                const std::vector<float>& found) {
  ASSERT_EQ(found.size(), means.size());
  double best = 1e300, of_found = -1;
  for (int i = 0; i < 40; ++i) {
    const double alpha = 0.05 * (i % 20), beta = i < 20 ? 0 : 1 - alpha;
    std::vector<double> s;
    for (size_t j = 0; j < means.size(); ++j) s.push_back(std::pow(means[j], alpha) / std::pow(sizes[j], beta));
    const auto [least, most] = std::minmax_element(s.begin(), s.end());
    const double middle = std::sqrt(*least * *most);
    for (double& x : s) x /= middle;
    const double loss = Loss(checkpoint, linears, inputs, s);
    best = std::min(best, loss);
    const bool same = std::equal(s.begin(), s.end(), found.begin(),
                                 [](double a, float b) { return std::abs(a - double{b}) < 1e-4 * a; });
    if (same) of_found = loss;
  }
  ASSERT_GE(of_found, 0) << linears[0];
  EXPECT_LT(of_found, 1.01 * best) << linears[0];
  EXPECT_LT(of_found, 0.9 * Loss(checkpoint, linears, inputs, std::vector<double>(means.size(), 1))) << linears[0];
}

std::unique_ptr<platform::WorkerTeam> Team() {
  auto team = platform::WorkerTeam::Create({.cpus = {0, 0}, .pin = false});
  EXPECT_TRUE(team.has_value()) << team.error();
  return std::move(*team);
}

TEST(Awq, FindsTheScalesThatLoseLeast) {
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(Config(), {}, 1);
  const model::LayerInputs inputs = LayerInputs();
  const auto team = Team();
  const auto found = FindAwqScales(*checkpoint, team.get(), 1, inputs, kGroup, [](const std::string&) { return true; });
  ASSERT_TRUE(found.has_value()) << found.error();
  const auto expect_best = [&](const std::vector<std::string>& linears, const model::LinearInputs& of, int64_t k,
                               const std::vector<float>& scales) {
    ExpectBest(*checkpoint, linears, of, Means(of, k), Sizes(*checkpoint, linears, k), scales);
  };
  expect_best({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, inputs.qkv, kHidden, found->qkv);
  expect_best({"mlp.gate_proj", "mlp.up_proj"}, inputs.gate_up, kHidden, found->gate_up);
  expect_best({"mlp.down_proj"}, inputs.down, kInner, found->down);
  // Heads 0 and 1 of the queries read head 0 of v, heads 2 and 3 head 1.
  std::vector<double> means = Means(inputs.o, kHeads * kHead);
  std::vector<double> sizes = Sizes(*checkpoint, {"self_attn.o_proj"}, kHeads * kHead);
  for (int64_t i = 0; i < kHead; ++i) {
    for (const int64_t pair : {0, 2}) {
      for (std::vector<double>* of : {&means, &sizes}) {
        double& a = (*of)[pair * kHead + i];
        double& b = (*of)[(pair + 1) * kHead + i];
        a = b = (a + b) / 2;
      }
      EXPECT_EQ(found->v[pair / 2 * kHead + i], found->o[pair * kHead + i]);
    }
  }
  ExpectBest(*checkpoint, {"self_attn.o_proj"}, inputs.o, means, sizes, found->o);
}

TEST(Awq, WhatStaysFloatHasNoSay) {
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(Config(), {}, 1);
  const model::LayerInputs inputs = LayerInputs();
  const auto team = Team();
  const auto found = FindAwqScales(*checkpoint, team.get(), 1, inputs, kGroup, [](const std::string& linear) {
    return linear == "model.layers.1.self_attn.k_proj" || linear == "model.layers.1.mlp.down_proj";
  });
  ASSERT_TRUE(found.has_value()) << found.error();
  ExpectBest(*checkpoint, {"self_attn.k_proj"}, inputs.qkv, Means(inputs.qkv, kHidden),
             Sizes(*checkpoint, {"self_attn.k_proj"}, kHidden), found->qkv);
  EXPECT_EQ(found->down.size(), kInner);
  EXPECT_TRUE(found->o.empty() && found->v.empty() && found->gate_up.empty());
}

}  // namespace
}  // namespace tiercel::quantize
