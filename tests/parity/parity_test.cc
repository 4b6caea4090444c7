// Tiny random models against Hugging Face's FP32 logits; goldens by make_goldens.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

const char* const kModels[] = {"qwen3-tied", "qwen3-untied-yarn", "qwen2-tied-linear",
                               "llama-untied-llama3", "llama-tied-biased"};

struct Golden {
  std::vector<int32_t> tokens;
  int64_t prompt_tokens = 0;
  std::vector<double> kl_hf_bf16;
  std::vector<float> logits;  // [tokens, vocab]
};

std::string Folder(const std::string& model) {
  return std::string(TIERCEL_TEST_DATA) + "/models/" + model;
}

Golden ReadGolden(const std::string& model) {
  std::ifstream json_file(Folder(model) + "/golden.json");
  const nlohmann::json json = nlohmann::json::parse(json_file);
  Golden golden;
  golden.tokens = json["tokens"].get<std::vector<int32_t>>();
  golden.prompt_tokens = json["prompt_tokens"];
  golden.kl_hf_bf16 = json["kl_hf_bf16"].get<std::vector<double>>();
  std::ifstream file(Folder(model) + "/logits.f32", std::ios::binary | std::ios::ate);
  golden.logits.resize(static_cast<size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(golden.logits.data()),
            std::ssize(golden.logits) * static_cast<int64_t>(sizeof(float)));
  return golden;
}

std::vector<double> LogSoftmax(const float* logits, int64_t n) {
  const double max = *std::max_element(logits, logits + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(logits[i] - max);
  std::vector<double> out(n);
  for (int64_t i = 0; i < n; ++i) out[i] = logits[i] - max - std::log(sum);
  return out;
}

double Kl(const float* reference, const float* other, int64_t n) {
  const std::vector<double> p = LogSoftmax(reference, n);
  const std::vector<double> q = LogSoftmax(other, n);
  double kl = 0;
  for (int64_t i = 0; i < n; ++i) kl += std::exp(p[i]) * (p[i] - q[i]);
  return kl;
}

// Teacher-forces the golden tokens in the given chunks; the last one repeats.
std::vector<std::vector<float>> TeacherForce(ModelRunner* runner,
                                             const std::vector<int32_t>& tokens,
                                             const std::vector<int64_t>& chunks) {
  std::vector<std::vector<float>> logits;
  const int sequence = runner->NewSequence();
  int64_t at = 0;
  for (size_t i = 0; at < std::ssize(tokens); ++i) {
    const int64_t rows = std::min(chunks[std::min(i, chunks.size() - 1)], std::ssize(tokens) - at);
    runner->Step({{sequence, {tokens.begin() + at, tokens.begin() + at + rows}}});
    logits.insert(logits.end(), runner->logits().begin(), runner->logits().end());
    at += rows;
  }
  return logits;
}

// Our rounding must not cost more than that of Hugging Face's own BF16 model, which rounds after
// every operation. The sum over the positions is compared, since single positions scatter; no
// position may be worse than the worst of the other by more than the scatter of such a maximum.
void ExpectAsCloseAsHuggingFaceBf16(const Golden& golden,
                                    const std::vector<std::vector<float>>& logits) {
  ASSERT_EQ(logits.size(), golden.tokens.size());
  const int64_t vocab = std::ssize(golden.logits) / std::ssize(golden.tokens);
  double sum = 0, worst = 0;
  for (size_t t = 0; t < logits.size(); ++t) {
    ASSERT_EQ(std::ssize(logits[t]), vocab);
    const double kl = Kl(&golden.logits[t * vocab], logits[t].data(), vocab);
    sum += kl;
    worst = std::max(worst, kl);
  }
  double hf_sum = 0, hf_worst = 0;
  for (const double kl : golden.kl_hf_bf16) {
    hf_sum += kl;
    hf_worst = std::max(hf_worst, kl);
  }
  ::testing::Test::RecordProperty("mean_kl_over_hf_bf16", std::to_string(sum / hf_sum));
  EXPECT_LE(sum, hf_sum);
  EXPECT_LE(worst, 2 * hf_worst);
}

// A different argmax is only right where the reference itself nearly ties.
void ExpectSameGreedyTokens(const Golden& golden, const std::vector<std::vector<float>>& logits) {
  const int64_t vocab = std::ssize(golden.logits) / std::ssize(golden.tokens);
  for (size_t t = 0; t < logits.size(); ++t) {
    const float* reference = &golden.logits[t * vocab];
    const int64_t expected = std::max_element(reference, reference + vocab) - reference;
    const int64_t found = std::max_element(logits[t].begin(), logits[t].end()) - logits[t].begin();
    EXPECT_LT(reference[expected] - reference[found], 0.1f)
        << "position " << t << ": token " << found << " instead of " << expected;
  }
}

class ParityTest
    : public ::testing::TestWithParam<std::tuple<const char*, const kernels::KernelTable*, Team>> {
};

TEST_P(ParityTest, LogitsAreAsCloseAsHuggingFaceBf16) {
  const auto [model, kernels, team] = GetParam();
  const Golden golden = ReadGolden(model);
  RunnerOptions options;
  options.kernels = kernels;
  options.team = team;
  auto runner = ModelRunner::Create(Folder(model), options);
  ASSERT_TRUE(runner.has_value()) << runner.error();

  const auto whole = TeacherForce(runner->get(), golden.tokens, {1000});
  ExpectAsCloseAsHuggingFaceBf16(golden, whole);
  ExpectSameGreedyTokens(golden, whole);
  // The prompt in one, then token by token, as a server does; and cut at odd places.
  EXPECT_EQ(TeacherForce(runner->get(), golden.tokens, {golden.prompt_tokens, 1}), whole);
  EXPECT_EQ(TeacherForce(runner->get(), golden.tokens, {1, 7, 3, 33, 2, 11}), whole);
}

constexpr auto kNameOf = [](const auto& info) {
  const auto& [model, kernels, team] = info.param;
  return TestName(model, *kernels, team);
};

INSTANTIATE_TEST_SUITE_P(
    All, ParityTest,
    ::testing::Combine(::testing::ValuesIn(kModels), ::testing::ValuesIn(AllKernels()),
                       ::testing::Values(Team{1, 1}, Team{1, 2}, Team{1, 3})),
    kNameOf);

// Ranks that divide the heads; of fewer KV heads than ranks several have the same.
INSTANTIATE_TEST_SUITE_P(
    Ranks, ParityTest,
    ::testing::Combine(::testing::Values("qwen3-tied", "qwen3-untied-yarn", "llama-untied-llama3", "llama-tied-biased"),
                       ::testing::ValuesIn(FirstAndLastKernels()),
                       ::testing::Values(Team{2, 1}, Team{2, 2}, Team{4, 1}, Team{2, 1, 2}, Team{2, 1, 4, 2})),
    kNameOf);

INSTANTIATE_TEST_SUITE_P(
    ThreeRanks, ParityTest,
    ::testing::Combine(::testing::Values("qwen2-tied-linear"), ::testing::ValuesIn(FirstAndLastKernels()),
                       ::testing::Values(Team{3, 1}, Team{3, 2})),
    kNameOf);

}  // namespace
}  // namespace tiercel::parity
