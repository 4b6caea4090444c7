// Checkpoints of the Ascend quantizer against the formula in w8a8_reference.py, which also made the
// small copies in tests/data/w8a8 of checkpoints that the quantizer wrote.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "parity/cosine.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

using Logits = std::vector<std::vector<float>>;

// A checkpoint, and which of its goldens: W8A8_MIX has two readings.
struct Case {
  const char* folder;
  const char* reading;
};

constexpr Case kCases[] = {
    {"v0-static", "only"},        // shifted norms; float biases inside quant_bias; a float down_proj
    {"v0-dynamic", "only"},       // shifted norms; float biases to add
    {"v0-mix", "static"},         // deq_scale as 64-bit integers
    {"v0-mix", "dynamic"},
    {"v0-static-fp16", "only"},   // FP16 everywhere
    {"v1-static-tied", "only"},   // the new pipeline: no weight_scale, no norm bias
    {"v1-mixed", "only"},         // static attention, dynamic gate and up, float down
    {"v1-mix-c8", "static"},
    {"v1-mix-c8", "dynamic"},
};

std::string Folder(const std::string& name) {
  return std::string(TIERCEL_TEST_DATA) + "/w8a8/" + name;
}

struct Golden {
  std::vector<int32_t> tokens;
  Logits logits;
};

Golden ReadGolden(const Case& c) {
  std::ifstream file(Folder(c.folder) + "/golden.json");
  const nlohmann::json json = nlohmann::json::parse(file);
  return {json["tokens"].get<std::vector<int32_t>>(), json["logits"][c.reading].get<Logits>()};
}

int64_t ArgMax(const std::vector<float>& row) {
  return std::max_element(row.begin(), row.end()) - row.begin();
}

class W8A8Test
    : public ::testing::TestWithParam<std::tuple<Case, const kernels::KernelTable*, Team>> {
 protected:
  std::unique_ptr<ModelRunner> MakeRunner(bool fuse_norm_quant,
                                          std::optional<DType> kv_dtype = std::nullopt,
                                          int64_t flashcomm_rows = -1) {
    const auto& [c, kernels, team] = GetParam();
    RunnerOptions options;
    options.kernels = kernels;
    options.team = team;
    options.weights.mix_static = std::string(c.reading) == "static";
    options.weights.kv_dtype = kv_dtype;
    options.graph.fuse_norm_quant = fuse_norm_quant;
    options.graph.flashcomm_rows = flashcomm_rows;
    auto runner = ModelRunner::Create(Folder(c.folder), options);
    EXPECT_TRUE(runner.has_value()) << runner.error();
    return runner.has_value() ? std::move(*runner) : nullptr;
  }

  static Logits AtOnce(ModelRunner* runner, const std::vector<int32_t>& tokens) {
    runner->Step({{runner->NewSequence(), tokens}});
    return runner->logits();
  }

  static Logits OneByOne(ModelRunner* runner, const std::vector<int32_t>& tokens) {
    const int sequence = runner->NewSequence();
    Logits logits;
    for (const int32_t token : tokens) {
      runner->Step({{sequence, {token}}});
      logits.push_back(runner->logits()[0]);
    }
    return logits;
  }
};

TEST_P(W8A8Test, LogitsAreThoseOfTheFormula) {
  const Golden golden = ReadGolden(std::get<0>(GetParam()));
  const auto runner = MakeRunner(true, DType::kBF16);  // the formula's cache is float
  ASSERT_NE(runner, nullptr);
  const Logits logits = AtOnce(runner.get(), golden.tokens);
  ASSERT_EQ(logits.size(), golden.logits.size());
  EXPECT_GE(Cosine(logits, golden.logits), 0.999);
  for (size_t t = 0; t < logits.size(); ++t) {
    const int64_t ours = ArgMax(logits[t]);
    const int64_t theirs = ArgMax(golden.logits[t]);
    // A near-tie may fall either way.
    EXPECT_LT(golden.logits[t][theirs] - golden.logits[t][ours], 0.1) << "token " << t;
  }
}

// Many rows share their quantized inputs among the workers, few are quantized by each; norms are
// quantized in the same pass or after it. Nothing of that may show in a bit.
TEST_P(W8A8Test, SameBitsHoweverItIsComputed) {
  const Golden golden = ReadGolden(std::get<0>(GetParam()));
  const auto fused = MakeRunner(true);
  const auto separate = MakeRunner(false);
  ASSERT_TRUE(fused != nullptr && separate != nullptr);
  const Logits logits = AtOnce(fused.get(), golden.tokens);
  EXPECT_EQ(OneByOne(fused.get(), golden.tokens), logits);
  EXPECT_EQ(AtOnce(separate.get(), golden.tokens), logits);
  EXPECT_EQ(OneByOne(separate.get(), golden.tokens), logits);
  if (std::get<2>(GetParam()).ranks == 1) return;
  for (const bool fuse : {true, false}) {  // bytes cross between the ranks, or BF16
    EXPECT_EQ(AtOnce(MakeRunner(fuse, std::nullopt, 0).get(), golden.tokens), logits);
  }
}

// An INT8 cache on request, with scales by token or those by channel of C8. The latter's calibrated
// range cuts off 0.8 % of these tokens' keys and values: the formula itself, with that cache instead
// of a float one, has a cosine of 0.9976 (static) and 0.9980 (dynamic) to its golden logits.
TEST_P(W8A8Test, AnInt8KvCacheIsNearTheFormula) {
  const Case& c = std::get<0>(GetParam());
  const bool by_channel = std::string(c.folder) == "v1-mix-c8";
  const Golden golden = ReadGolden(c);
  const auto runner = MakeRunner(true, DType::kI8);
  ASSERT_NE(runner, nullptr);
  const Logits logits = AtOnce(runner.get(), golden.tokens);
  EXPECT_GE(Cosine(logits, golden.logits), by_channel ? 0.997 : 0.999);
  EXPECT_EQ(OneByOne(runner.get(), golden.tokens), logits);
  if (by_channel) {  // what such a checkpoint gets without a request
    EXPECT_EQ(AtOnce(MakeRunner(true).get(), golden.tokens), logits);
  }
}

constexpr auto kNameOf = [](const auto& info) {
  const auto& [c, kernels, team] = info.param;
  return TestName(fmt::format("{}_{}", c.folder, c.reading), *kernels, team);
};

INSTANTIATE_TEST_SUITE_P(
    All, W8A8Test,
    ::testing::Combine(::testing::ValuesIn(kCases), ::testing::ValuesIn(AllKernels()),
                       ::testing::Values(Team{1, 1}, Team{1, 2}, Team{1, 3}, Team{1, 2, 1, 1, {2, 1}})),
    kNameOf);

INSTANTIATE_TEST_SUITE_P(
    Ranks, W8A8Test,
    ::testing::Combine(::testing::ValuesIn(kCases), ::testing::ValuesIn(FirstAndLastKernels()),
                       ::testing::Values(Team{2, 1}, Team{2, 2}, Team{4, 1}, Team{2, 1, 2}, Team{4, 1, 2})),
    kNameOf);

}  // namespace
}  // namespace tiercel::parity
