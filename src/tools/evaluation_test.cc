#include "tools/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint/checkpoint.h"
#include "model/load_model.h"

namespace tiercel::tools {
namespace {

using ::testing::ElementsAre;

TEST(CutWindows, EveryTokenIsScoredOnce) {
  EXPECT_THAT(CutWindows(10, 4, 4, false),
              ElementsAre(EvalWindow{0, 4, 1}, EvalWindow{4, 8, 5}, EvalWindow{8, 10, 9}));
  EXPECT_THAT(CutWindows(10, 4, 4, true),
              ElementsAre(EvalWindow{0, 4, 0}, EvalWindow{4, 8, 4}, EvalWindow{8, 10, 8}));
  EXPECT_THAT(CutWindows(9, 4, 2, false), ElementsAre(EvalWindow{0, 4, 1}, EvalWindow{2, 6, 4},
                                                      EvalWindow{4, 8, 6}, EvalWindow{6, 9, 8}));
  for (const int64_t tokens : {2, 7, 100}) {
    for (const int64_t window : {2, 5, 200}) {
      for (int64_t stride = 1; stride < window; ++stride) {
        int64_t scored = 1;  // all but the first
        for (const EvalWindow& w : CutWindows(tokens, window, stride, false)) {
          EXPECT_EQ(w.first_scored, scored);
          EXPECT_GT(w.first_scored, w.begin);
          scored = w.end;
        }
        EXPECT_EQ(scored, tokens);
      }
    }
  }
}

TEST(Summarize, KnowsItsStatistics) {
  const Summary s = Summarize({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(s.mean, 2.5);
  EXPECT_DOUBLE_EQ(s.median, 2.5);
  EXPECT_DOUBLE_EQ(s.max, 4);
  EXPECT_NEAR(s.standard_error, std::sqrt(5.0 / 3 / 4), 1e-12);
  EXPECT_DOUBLE_EQ(Summarize({7}).standard_error, 0);
  EXPECT_DOUBLE_EQ(Summarize({7}).median, 7);
}

// Predicts the same distribution at every token; its logits are off by a constant, as logits may be.
class ConstantLm final : public model::CausalLm {
 public:
  ConstantLm(std::vector<double> probabilities, float offset, int workers) : workers_(workers) {
    for (const double p : probabilities) {
      logits_.push_back(static_cast<float>(std::log(p)) + offset);
    }
  }

  int64_t vocab_size() const override { return std::ssize(logits_); }
  int64_t hidden_size() const override { return 1; }
  int64_t max_position() const override { return 1024; }
  int workers() const override { return workers_; }
  int64_t KvBlockBytes(int) const override { return 1; }
  int64_t WeightBytes() const override { return 1; }
  int64_t ActivationBytes(const model::RunLimits&) const override { return 1; }
  Status Prepare(const model::KvOptions&, const model::RunLimits&) override { return OkStatus(); }
  // The same logits for every row.
  Status Run(const model::StepBatch& batch,
             FunctionRef<void(const model::LogitGroup&, int)> after) override {
    const model::LogitGroup group{0, std::ssize(batch.logit_rows), logits_.data(), 0};
    for (int worker = 0; worker < workers_; ++worker) after(group, worker);
    return OkStatus();
  }

 private:
  const int workers_;
  std::vector<float> logits_;
};

class EvaluationTest : public ::testing::Test {
 protected:
  EvaluationTest() {
    auto environment = kernels::Environment::Create({.threads = 2, .pin = false});
    EXPECT_TRUE(environment) << environment.error();
    environment_ = std::move(*environment);
    for (int32_t i = 0; i < 300; ++i) tokens_.push_back((i * i * 7 + i) % 500);
  }

  std::unique_ptr<model::CausalLm> Load(const std::string& name) {
    const auto checkpoint =
        checkpoint::Checkpoint::Open(std::string(TIERCEL_TEST_DATA) + "/models/" + name);
    EXPECT_TRUE(checkpoint) << checkpoint.error();
    auto model = model::LoadModel(**checkpoint, {.graph = {.mode = model::GraphMode::kNone}},
                                  environment_.get(), [](int64_t, int64_t) {});
    EXPECT_TRUE(model) << model.error();
    return std::move(*model);
  }

  NllScores Nll(int64_t window, int64_t stride, std::optional<int32_t> bos) {
    const auto model = Load("qwen3-tied");
    const auto windows = CutWindows(std::ssize(tokens_), window, stride, bos.has_value());
    int64_t last = 0, all = -1;
    auto scores = ScorePerplexity(model.get(), environment_.get(), {tokens_, windows, bos},
                                  [&](int64_t done, int64_t total) {
                                    EXPECT_GT(done, last);
                                    last = done;
                                    all = total;
                                  });
    EXPECT_EQ(last, all);
    EXPECT_TRUE(scores) << scores.error();
    return *scores;
  }

  std::unique_ptr<kernels::Environment> environment_;
  std::vector<int32_t> tokens_;
};

// A window shorter or longer than a step, and the same tokens with another way of cutting.
TEST_F(EvaluationTest, ATokensScoreDependsOnWhatStandsBeforeItOnly) {
  const NllScores whole = Nll(300, 300, std::nullopt);
  ASSERT_EQ(whole.nll.size(), 299);
  const NllScores cut = Nll(280, 280, std::nullopt);
  ASSERT_EQ(cut.nll.size(), 279 + 19);
  EXPECT_TRUE(std::equal(cut.nll.begin(), cut.nll.begin() + 279, whole.nll.begin()));
  EXPECT_NE(cut.nll.back(), whole.nll.back());
  const NllScores overlapping = Nll(280, 20, std::nullopt);
  ASSERT_EQ(overlapping.nll.size(), 299);
  EXPECT_TRUE(std::equal(cut.nll.begin(), cut.nll.begin() + 279, overlapping.nll.begin()));
  // With the first token as BOS, every token has something before it.
  const int32_t first = tokens_.front();
  tokens_.erase(tokens_.begin());
  EXPECT_EQ(Nll(299, 299, first).nll, whole.nll);
}

TEST_F(EvaluationTest, FormulasHold) {
  ConstantLm reference({0.5, 0.25, 0.25}, -3, 2), model({0.25, 0.625, 0.125}, 40, 2);
  tokens_ = {0, 0, 1, 2};
  const auto windows = CutWindows(4, 4, 4, false);
  const auto scores = ScoreKl(&model, &reference, environment_.get(), {tokens_, windows, {}},
                              [](int64_t, int64_t) {});
  ASSERT_TRUE(scores) << scores.error();
  ASSERT_EQ(scores->kl.size(), 3);
  const double kl = 0.5 * std::log(2) + 0.25 * std::log(0.25 / 0.625) + 0.25 * std::log(2);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(scores->kl[i], kl, 1e-5);
    EXPECT_NEAR(scores->nll[i], -std::log(std::vector{0.25, 0.625, 0.125}[i]), 1e-5);
    EXPECT_NEAR(scores->reference_nll[i], -std::log(std::vector{0.5, 0.25, 0.25}[i]), 1e-5);
    EXPECT_EQ(scores->same_top[i], 0);
  }
}

TEST_F(EvaluationTest, AModelIsAtNoDistanceFromItself) {
  const auto windows = CutWindows(std::ssize(tokens_), 100, 100, false);
  const auto nothing = [](int64_t, int64_t) {};
  const EvalText text{tokens_, windows, std::nullopt};
  const auto model = Load("qwen3-tied");
  const auto same = Load("qwen3-tied");
  const auto scores = ScoreKl(model.get(), same.get(), environment_.get(), text, nothing);
  ASSERT_TRUE(scores) << scores.error();
  ASSERT_EQ(scores->kl.size(), 297);
  for (size_t i = 0; i < scores->kl.size(); ++i) {
    EXPECT_NEAR(scores->kl[i], 0, 1e-6);
    EXPECT_EQ(scores->nll[i], scores->reference_nll[i]);
    EXPECT_EQ(scores->same_top[i], 1);
  }
  EXPECT_EQ(scores->nll, Nll(100, 100, std::nullopt).nll);
}

}  // namespace
}  // namespace tiercel::tools
