// A sequence whose activations are not finite is its own affair: those beside it in a step, and those
// that get its blocks after it, have the logits that they have alone, bit for bit.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "base/bf16.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

using Logits = std::vector<std::vector<float>>;

constexpr const char* kModel = "/models/qwen3-untied-yarn";
// Tokens whose embeddings are made a NaN, infinite, and so large that they overflow.
constexpr int32_t kSickTokens[] = {500, 501, 502};
constexpr uint16_t kSickBits[] = {0x7fc0, 0xff80, 0x7f7f};

// A copy of the model with sick embeddings, for this process.
class SickModel {
 public:
  SickModel() : folder_(::testing::TempDir() + "sick_model_" + std::to_string(getpid())) {
    const std::string source = std::string(TIERCEL_TEST_DATA) + kModel;
    std::filesystem::copy(source, folder_);
    std::fstream file(folder_ + "/model.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    uint64_t header_size = 0;
    file.read(reinterpret_cast<char*>(&header_size), sizeof(header_size));
    std::string header(header_size, ' ');
    file.read(header.data(), static_cast<std::streamsize>(header_size));
    const nlohmann::json table = nlohmann::json::parse(header)["model.embed_tokens.weight"];
    EXPECT_EQ(table["dtype"], "BF16");
    const int64_t hidden = table["shape"][1];
    const int64_t begin =
        static_cast<int64_t>(8 + header_size) + table["data_offsets"][0].get<int64_t>();
    for (int i = 0; i < 3; ++i) {
      const std::vector<uint16_t> row(hidden, kSickBits[i]);
      file.seekp(begin + kSickTokens[i] * hidden * 2);
      file.write(reinterpret_cast<const char*>(row.data()), hidden * 2);
    }
    EXPECT_TRUE(file.good());
  }
  ~SickModel() { std::filesystem::remove_all(folder_); }
  const std::string& folder() const { return folder_; }

 private:
  const std::string folder_;
};

std::vector<int32_t> Tokens(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 500);
  return tokens;
}

class NaNIsolationTest
    : public ::testing::TestWithParam<std::tuple<const kernels::KernelTable*, DType, Team>> {
 protected:
  static constexpr int64_t kPrompt = 45, kLength = 52;  // blocks of 32: the second is never full

  void SetUp() override {
    const auto [kernels, kv_dtype, team] = GetParam();
    RunnerOptions options;
    options.kernels = kernels;
    options.team = team;
    options.weights.kv_dtype = kv_dtype;
    auto runner = ModelRunner::Create(model_.folder(), options);
    ASSERT_TRUE(runner.has_value()) << runner.error();
    runner_ = std::move(*runner);
    alone_ = Run(runner_->NewSequence(), {});
    for (const std::vector<float>& row : alone_) {
      for (const float x : row) ASSERT_TRUE(std::isfinite(x));
    }
  }

  // The healthy tokens in `sequence`, the prompt in one step, then one by one; beside them, in each of
  // these steps, one more token of each of `others`.
  Logits Run(int sequence, const std::vector<std::pair<int, int32_t>>& others) {
    Logits logits;
    for (int64_t at = 0; at < kLength; at = std::max(kPrompt, at + 1)) {
      const int64_t end = at == 0 ? kPrompt : at + 1;
      std::vector<ModelRunner::Part> parts;
      for (const auto& [other, token] : others) parts.push_back({other, {token}, true});
      parts.push_back({sequence, {tokens_.begin() + at, tokens_.begin() + end}});
      runner_->Step(parts);
      logits.insert(logits.end(), runner_->logits().begin() + static_cast<int64_t>(others.size()),
                    runner_->logits().end());
    }
    return logits;
  }

  // Fills the blocks of a new sequence with 64 sick tokens: both blocks to their ends.
  int SickSequence(int32_t token) {
    const int sequence = runner_->NewSequence();
    std::vector<int32_t> tokens = Tokens(64, 3);
    for (size_t i = 0; i < tokens.size(); i += 2) tokens[i] = token;
    runner_->Step({{sequence, tokens}});
    return sequence;
  }

  const SickModel model_;
  const std::vector<int32_t> tokens_ = Tokens(kLength, 5);
  std::unique_ptr<ModelRunner> runner_;
  Logits alone_;
};

TEST_P(NaNIsolationTest, TheSickSequenceIsSick) {
  SickSequence(kSickTokens[0]);
  EXPECT_TRUE(std::isnan(runner_->logits()[0][0]));
}

TEST_P(NaNIsolationTest, BesideSickSequences) {
  std::vector<std::pair<int, int32_t>> others;
  for (const int32_t token : kSickTokens) others.emplace_back(SickSequence(token), token);
  EXPECT_EQ(Run(runner_->NewSequence(), others), alone_);
}

TEST_P(NaNIsolationTest, InTheBlocksOfASickSequence) {
  for (const int32_t token : kSickTokens) {
    const int sequence = SickSequence(token);
    runner_->StartOver(sequence);
    EXPECT_EQ(Run(sequence, {}), alone_) << "token " << token;
  }
}

constexpr auto kNameOf = [](const auto& info) {
      return TestName(*std::get<0>(info.param)) +
             (std::get<1>(info.param) == DType::kI8 ? "_int8_" : std::get<1>(info.param) == DType::kBF16 ? "_bf16_" : "_fp8_") +
             TestName(std::get<2>(info.param));
    };

constexpr DType kCaches[] = {DType::kBF16, DType::kI8, DType::kF8E4M3};

INSTANTIATE_TEST_SUITE_P(
    All, NaNIsolationTest,
    ::testing::Combine(::testing::ValuesIn(AllKernels()), ::testing::ValuesIn(kCaches),
                       ::testing::Values(Team{1, 1}, Team{1, 3})),
    kNameOf);

INSTANTIATE_TEST_SUITE_P(
    Ranks, NaNIsolationTest,
    ::testing::Combine(::testing::ValuesIn(FirstAndLastKernels()), ::testing::ValuesIn(kCaches),
                       ::testing::Values(Team{2, 1})),
    kNameOf);

}  // namespace
}  // namespace tiercel::parity
