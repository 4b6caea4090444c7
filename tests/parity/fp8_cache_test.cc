// Models over an FP8 KV cache: near those over a BF16 cache, with the scales that a checkpoint has, and the same bits
// however a sequence is computed.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "parity/cosine.h"
#include "parity/dummy_based_model.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

using Logits = std::vector<std::vector<float>>;

constexpr int64_t kTokens = 74;

std::vector<int32_t> Tokens(uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(kTokens);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 500);
  return tokens;
}

const std::string kFolder = TIERCEL_TEST_DATA "/models/qwen3-tied";

template <typename Source>  // a folder, or a checkpoint
std::unique_ptr<ModelRunner> MakeRunner(const Source& source, DType cache, Team team = {1, 2},
                                        const kernels::KernelTable* kernels = nullptr) {
  RunnerOptions options;
  options.team = team;
  options.kernels = kernels;
  options.weights.kv_dtype = cache;
  auto runner = ModelRunner::Create(source, options);
  EXPECT_TRUE(runner.has_value()) << runner.error();
  return runner.has_value() ? std::move(*runner) : nullptr;
}

// In steps of so many tokens, beside `others` more sequences.
Logits RunModel(ModelRunner* runner, int64_t step, int others = 0) {
  const std::vector<int32_t> tokens = Tokens(7);
  const int sequence = runner->NewSequence();
  Logits logits;
  for (int64_t t = 0; t < kTokens; t += step) {
    std::vector<ModelRunner::Part> parts;
    parts.push_back({sequence, {tokens.begin() + t, tokens.begin() + std::min(kTokens, t + step)}});
    for (int i = 0; i < others; ++i) parts.push_back({runner->NewSequence(), Tokens(static_cast<uint32_t>(i)), false});
    runner->Step(parts);
    logits.insert(logits.end(), runner->logits().begin(), runner->logits().end());
  }
  return logits;
}

// Three bits of mantissa: a number errs by up to a 16th of itself.
TEST(Fp8Cache, LogitsAreNearThoseOverABF16Cache) {
  for (const kernels::KernelTable* kernels : AllKernels()) {
    const Logits exact = RunModel(MakeRunner(kFolder, DType::kBF16, {1, 2}, kernels).get(), kTokens);
    const Logits fp8 = RunModel(MakeRunner(kFolder, DType::kF8E4M3, {1, 2}, kernels).get(), kTokens);
    EXPECT_NE(fp8, exact) << kernels->detail;
    EXPECT_GT(Cosine(fp8, exact), 0.998) << kernels->detail;
  }
}

TEST(Fp8Cache, BitsDependNeitherOnStepsNorOnWhatIsBesideNorOnWorkers) {
  for (const kernels::KernelTable* kernels : AllKernels()) {
    const Logits logits = RunModel(MakeRunner(kFolder, DType::kF8E4M3, {1, 1}, kernels).get(), kTokens);
    for (const Team& team : {Team{1, 1}, Team{1, 3}}) {
      const auto runner = MakeRunner(kFolder, DType::kF8E4M3, team, kernels);
      for (const int64_t step : {1, 5, 33}) EXPECT_EQ(RunModel(runner.get(), step), logits) << kernels->detail << " " << step;
      EXPECT_EQ(RunModel(runner.get(), 9, 3), logits) << kernels->detail;
    }
  }
  const Logits of_two = RunModel(MakeRunner(kFolder, DType::kF8E4M3, {2, 1}).get(), kTokens);
  EXPECT_EQ(RunModel(MakeRunner(kFolder, DType::kF8E4M3, {2, 2}).get(), 7), of_two);
  EXPECT_EQ(RunModel(MakeRunner(kFolder, DType::kF8E4M3, {2, 1, 2}).get(), 7), of_two);
}

// A dummy model with scales of its cache that are powers of two, others in each layer: as tensors, or multiplied into
// the weights around the cache, where they change no rounding. Keys are larger then, and queries smaller; values larger,
// and what is made of the sum of them smaller.
class ScaledModel final : public DummyBasedModel {
 public:
  enum class Scales { kNone, kTensors, kWeights };
  explicit ScaledModel(Scales scales) : scales_(scales) {}

  std::optional<checkpoint::TensorInfo> Find(const std::string& name) const override {
    if (ScaleOf(name) != nullptr) return checkpoint::TensorInfo{{1}, "F32"};
    return DummyBasedModel::Find(name);
  }
  const uint8_t* MappedBytes(const std::string& name) const override {
    return reinterpret_cast<const uint8_t*>(ScaleOf(name));
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    RETURN_IF_ERROR(DummyBasedModel::ReadRows(name, begin, end, out));
    for (int64_t i = 0; i < (end - begin) * Width(name); ++i) out[i] = ToBF16(ToFloat(out[i]) * Factor(name));
    return OkStatus();
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    RETURN_IF_ERROR(DummyBasedModel::ReadRows(name, begin, end, out));
    for (int64_t i = 0; i < (end - begin) * Width(name); ++i) out[i] *= Factor(name);
    return OkStatus();
  }

 private:
  static constexpr float kKey[2] = {0x1p-5f, 0x1p-7f}, kValue[2] = {0x1p-10f, 0x1p-8f};

  static int LayerOf(const std::string& name) { return name.starts_with("model.layers.1.") ? 1 : 0; }
  const float* ScaleOf(const std::string& name) const {
    if (scales_ != Scales::kTensors) return nullptr;
    if (name.ends_with("self_attn.k_scale")) return &kKey[LayerOf(name)];
    if (name.ends_with("self_attn.v_scale")) return &kValue[LayerOf(name)];
    return nullptr;
  }
  float Factor(const std::string& name) const {
    if (scales_ != Scales::kWeights) return 1;
    if (name.ends_with("self_attn.k_norm.weight")) return 1 / kKey[LayerOf(name)];
    if (name.ends_with("self_attn.q_norm.weight")) return kKey[LayerOf(name)];
    if (name.ends_with("self_attn.v_proj.weight")) return 1 / kValue[LayerOf(name)];
    if (name.ends_with("self_attn.o_proj.weight")) return kValue[LayerOf(name)];
    return 1;
  }

  const Scales scales_;
};

TEST(Fp8Cache, TheCheckpointsScalesAreThoseOfTheWeightsAroundTheCache) {
  const ScaledModel none(ScaledModel::Scales::kNone), tensors(ScaledModel::Scales::kTensors),
      weights(ScaledModel::Scales::kWeights);
  for (const kernels::KernelTable* kernels : AllKernels()) {
    for (const Team& team : kernels == AllKernels().back() ? std::vector{Team{1, 2}, Team{2, 1}} : std::vector{Team{1, 2}}) {
      const Logits expected = RunModel(MakeRunner(weights, DType::kF8E4M3, team, kernels).get(), 5);
      EXPECT_EQ(RunModel(MakeRunner(tensors, DType::kF8E4M3, team, kernels).get(), 5), expected) << kernels->detail;
      EXPECT_NE(RunModel(MakeRunner(none, DType::kF8E4M3, team, kernels).get(), 5), expected) << kernels->detail;
      // They serve that cache alone.
      EXPECT_EQ(RunModel(MakeRunner(tensors, DType::kBF16, team, kernels).get(), 5),
                RunModel(MakeRunner(none, DType::kBF16, team, kernels).get(), 5));
    }
  }
}

}  // namespace
}  // namespace tiercel::parity
