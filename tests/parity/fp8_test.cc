// Models whose linears are FP8. Truth is the same weights in BF16, which holds them exactly where scales are powers of
// two.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/e4m3.h"
#include "checkpoint/convert.h"
#include "parity/cosine.h"
#include "parity/dummy_based_model.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

using Logits = std::vector<std::vector<float>>;

// Linears of random codes with scales that are powers of two, but for those in whose names `floats` is (empty: none);
// the rest is a dummy's.
class Fp8Model final : public DummyBasedModel {
 public:
  explicit Fp8Model(std::string floats = "") : floats_(std::move(floats)) {}

  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    if (!IsFp8(name)) return DummyBasedModel::ReadRows(name, begin, end, out);
    std::vector<float> values(static_cast<size_t>((end - begin) * Width(name)));
    RETURN_IF_ERROR(ReadRows(name, begin, end, values.data()));
    checkpoint::RoundToBF16(values.data(), std::ssize(values), out);
    return OkStatus();
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    if (!IsFp8(name)) return DummyBasedModel::ReadRows(name, begin, end, out);
    for (int64_t row = begin; row < end; ++row) {
      const checkpoint::BlockRow blocks = RowOf(name, row);
      for (size_t i = 0; i < blocks.codes.size(); ++i) *out++ = blocks.float_scale[i / 128] * E4M3ToFloat(blocks.codes[i]);
    }
    return OkStatus();
  }
  BlockFormat BlockFormatOf(const std::string& name) const override {
    return IsFp8(name) ? BlockFormat::kF8 : BlockFormat::kNone;
  }
  Status ReadBlocks(const std::string& name, int64_t row, checkpoint::BlockRow* out) const override {
    *out = RowOf(name, row);
    return OkStatus();
  }

 private:
  bool IsFp8(const std::string& name) const {
    return name.ends_with("_proj.weight") && (floats_.empty() || name.find(floats_) == std::string::npos);
  }
  // Values of about ± 0.03.
  checkpoint::BlockRow RowOf(const std::string& name, int64_t row) const {
    checkpoint::BlockRow out;
    out.Resize(InfoOf(BlockFormat::kF8), Width(name));
    std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>{}(name) + static_cast<size_t>(row) * 7919));
    for (uint8_t& code : out.codes) code = static_cast<uint8_t>(70 + random() % 40 + random() % 2 * 128);
    for (float& scale : out.float_scale) scale = random() % 2 == 0 ? 0x1p-11f : 0x1p-12f;
    return out;
  }

  const std::string floats_;
};

// Logits of 40 tokens in steps of so many.
Logits RunModel(const checkpoint::Checkpoint& checkpoint, bool keep, Team team, int64_t step,
                const kernels::KernelTable* kernels = nullptr) {
  RunnerOptions options;
  options.team = team;
  options.kernels = kernels;
  options.weights.keep_blocks = keep;
  const auto runner = ModelRunner::Create(checkpoint, options);
  EXPECT_TRUE(runner.has_value()) << runner.error();
  if (!runner) return {};
  const int sequence = (*runner)->NewSequence();
  std::mt19937 random(7);
  std::vector<int32_t> tokens(40);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 500);
  Logits logits;
  for (int64_t t = 0; t < 40; t += step) {
    (*runner)->Step({{sequence, {tokens.begin() + t, tokens.begin() + std::min<int64_t>(40, t + step)}}});
    logits.insert(logits.end(), (*runner)->logits().begin(), (*runner)->logits().end());
  }
  return logits;
}

TEST(Fp8, LogitsAreThoseOfTheSameWeightsInBF16) {
  // All; and shards of fused linears that are not.
  for (const char* floats : {"", "k_proj", "gate_proj", "down_proj"}) {
    const Fp8Model checkpoint(floats);
    for (const kernels::KernelTable* table : AllKernels()) {
      const Logits exact = RunModel(checkpoint, false, {1, 2}, 40, table);
      EXPECT_GT(Cosine(RunModel(checkpoint, true, {1, 2}, 40, table), exact), 0.9999) << table->detail << " " << floats;
    }
  }
}

TEST(Fp8, BitsDependNeitherOnRowsNorOnWorkers) {
  const Fp8Model checkpoint;
  const Logits logits = RunModel(checkpoint, true, {1, 2}, 40);
  EXPECT_EQ(RunModel(checkpoint, true, {1, 2}, 1), logits);
  EXPECT_EQ(RunModel(checkpoint, true, {1, 3}, 9), logits);
}

TEST(Fp8, RanksHaveWholeBlocks) {
  const Fp8Model checkpoint;
  const Logits logits = RunModel(checkpoint, true, {1, 2}, 40), of_two = RunModel(checkpoint, true, {2, 1}, 40);
  EXPECT_GT(Cosine(of_two, logits), 0.9999);
  EXPECT_EQ(RunModel(checkpoint, true, {2, 1}, 1), of_two);
  EXPECT_EQ(RunModel(checkpoint, true, {2, 2}, 40), of_two);
}

}  // namespace
}  // namespace tiercel::parity
