// Models whose weights stay in the few bits of their file, each matrix in another format. Truth is the same weights
// dequantized to BF16 (whose own truth is another program's: model/gguf_test).
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/convert.h"
#include "checkpoint/gguf_blocks.h"
#include "parity/cosine.h"
#include "parity/dummy_based_model.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

using checkpoint::GgufTensorType;
using Logits = std::vector<std::vector<float>>;

// Every matrix of random blocks of GGUF's types in turn, or all of one; the vectors are a dummy's.
class BlockCheckpoint final : public DummyBasedModel {
 public:
  BlockCheckpoint(bool tied, std::vector<GgufTensorType> types) : DummyBasedModel(512, tied), types_(std::move(types)) {}

  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    std::vector<float> values(static_cast<size_t>((end - begin) * Width(name)));
    RETURN_IF_ERROR(ReadRows(name, begin, end, values.data()));
    checkpoint::RoundToBF16(values.data(), std::ssize(values), out);
    return OkStatus();
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    if (Width(name) == 1) return DummyBasedModel::ReadRows(name, begin, end, out);
    for (int64_t row = begin; row < end; ++row, out += Width(name)) {
      checkpoint::Dequantize(TypeOf(name), RowOf(name, row).data(), Width(name), out);
    }
    return OkStatus();
  }
  BlockFormat BlockFormatOf(const std::string& name) const override {
    return Width(name) == 1 ? BlockFormat::kNone : checkpoint::BlockFormatOf(TypeOf(name));
  }
  Status ReadBlocks(const std::string& name, int64_t row, checkpoint::BlockRow* out) const override {
    checkpoint::ReadBlocks(TypeOf(name), RowOf(name, row).data(), Width(name), out);
    return OkStatus();
  }

 private:
  GgufTensorType TypeOf(const std::string& name) const {
    return types_[std::hash<std::string>{}(name) % types_.size()];
  }
  // Codes of any value, scales of about ± 0.01 of the largest code.
  std::vector<uint8_t> RowOf(const std::string& name, int64_t row) const {
    const GgufTensorType type = TypeOf(name);
    const checkpoint::GgufBlock block = *checkpoint::GgufBlockOf(static_cast<uint32_t>(type));
    std::vector<uint8_t> bytes(static_cast<size_t>(Width(name) / block.elements * block.bytes));
    std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>{}(name) + static_cast<size_t>(row) * 7919));
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    const bool sub = block.elements == 256, min = type == GgufTensorType::kQ4_1 || type == GgufTensorType::kQ5_1 ||
                                                  type == GgufTensorType::kQ4_K || type == GgufTensorType::kQ5_K;
    const int64_t levels = type == GgufTensorType::kQ8_0 ? 128 : type == GgufTensorType::kQ6_K   ? 32 * 128
                                                            : sub                                ? 16 * 32
                                                            : type == GgufTensorType::kQ4_0 ||
                                                                    type == GgufTensorType::kQ4_1 ? 8
                                                                                                  : 16;
    const auto put = [&](size_t at, float value) {
      const uint16_t bits = ToHalf(value);
      std::memcpy(&bytes[at], &bits, sizeof(bits));
    };
    for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(block.bytes)) {
      const float scale = 0.06f / static_cast<float>(levels) * (1 + static_cast<float>(random() % 100) / 100);
      put(at + (type == GgufTensorType::kQ6_K ? 208 : 0), scale);
      // The middle of the codes is about 0.
      if (min) put(at + 2, sub ? scale * static_cast<float>(levels) / 32 : -scale * static_cast<float>(levels));
    }
    return bytes;
  }

  const std::vector<GgufTensorType> types_;
};

const std::vector<GgufTensorType> kAllTypes = {GgufTensorType::kQ4_0, GgufTensorType::kQ4_1, GgufTensorType::kQ5_0,
                                               GgufTensorType::kQ5_1, GgufTensorType::kQ8_0, GgufTensorType::kQ4_K,
                                               GgufTensorType::kQ5_K, GgufTensorType::kQ6_K};

std::vector<int32_t> Tokens(int64_t n) {
  std::mt19937 random(7);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 500);
  return tokens;
}

// Logits of 40 tokens in steps of so many.
Logits RunModel(const checkpoint::Checkpoint& checkpoint, bool keep_blocks, Team team, int64_t step,
                const kernels::KernelTable* kernels = nullptr,
                checkpoint::QuantizeTo quantize = checkpoint::QuantizeTo::kNone) {
  RunnerOptions options;
  options.team = team;
  options.kernels = kernels;
  options.weights.keep_blocks = keep_blocks;
  options.weights.quantize = quantize;
  const auto runner = ModelRunner::Create(checkpoint, options);
  EXPECT_TRUE(runner.has_value()) << runner.error();
  if (!runner) return {};
  const int sequence = (*runner)->NewSequence();
  const std::vector<int32_t> tokens = Tokens(40);
  Logits logits;
  for (int64_t t = 0; t < 40; t += step) {
    (*runner)->Step({{sequence, {tokens.begin() + t, tokens.begin() + std::min<int64_t>(40, t + step)}}});
    logits.insert(logits.end(), (*runner)->logits().begin(), (*runner)->logits().end());
  }
  return logits;
}

TEST(BlockFormat, LogitsAreThoseOfTheDequantizedWeights) {
  for (const bool tied : {true, false}) {
    const BlockCheckpoint checkpoint(tied, kAllTypes);
    const Logits exact = RunModel(checkpoint, false, {1, 2}, 40);
    EXPECT_GT(Cosine(RunModel(checkpoint, true, {1, 2}, 40), exact), 0.9995) << tied;
  }
  for (const GgufTensorType type : kAllTypes) {
    const BlockCheckpoint checkpoint(true, {type});
    EXPECT_GT(Cosine(RunModel(checkpoint, true, {1, 2}, 40), RunModel(checkpoint, false, {1, 2}, 40)), 0.9995)
        << checkpoint::GgufTypeName(static_cast<uint32_t>(type));
  }
}

TEST(BlockFormat, BitsDependNeitherOnRowsNorOnWorkers) {
  const BlockCheckpoint checkpoint(false, kAllTypes);
  const Logits logits = RunModel(checkpoint, true, {1, 2}, 40);
  EXPECT_EQ(RunModel(checkpoint, true, {1, 2}, 1), logits);
  EXPECT_EQ(RunModel(checkpoint, true, {1, 3}, 9), logits);
}

TEST(BlockFormat, RanksHaveWholeBlocks) {
  const BlockCheckpoint checkpoint(false, kAllTypes);
  const Logits logits = RunModel(checkpoint, true, {1, 2}, 40), of_two = RunModel(checkpoint, true, {2, 1}, 40);
  EXPECT_GT(Cosine(of_two, logits), 0.9999);
  EXPECT_EQ(RunModel(checkpoint, true, {2, 1}, 1), of_two);
  EXPECT_EQ(RunModel(checkpoint, true, {2, 2}, 40), of_two);
}

TEST(BlockFormat, EveryKernelTable) {
  const BlockCheckpoint checkpoint(true, kAllTypes);
  const Logits exact = RunModel(checkpoint, false, {1, 2}, 40);
  for (const kernels::KernelTable* table : AllKernels()) {
    EXPECT_GT(Cosine(RunModel(checkpoint, true, {1, 2}, 40, table), exact), 0.9995) << table->detail;
  }
}

// A float model that becomes INT4: its bits do not depend on rows either, and it is near the model that it was.
TEST(BlockFormat, QuantizedWhileLoading) {
  checkpoint::ModelConfig config = BlockCheckpoint(true, kAllTypes).config();
  const auto checkpoint = checkpoint::MakeDummyCheckpoint(config, {}, 1);
  const Logits floats = RunModel(*checkpoint, true, {1, 2}, 40);
  const Logits int4 = RunModel(*checkpoint, true, {1, 2}, 40, nullptr, checkpoint::QuantizeTo::kInt4);
  EXPECT_NE(int4, floats);
  EXPECT_GT(Cosine(int4, floats), 0.97);
  EXPECT_EQ(RunModel(*checkpoint, true, {1, 2}, 1, nullptr, checkpoint::QuantizeTo::kInt4), int4);
}

}  // namespace
}  // namespace tiercel::parity
