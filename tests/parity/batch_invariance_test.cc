// A sequence's logits do not depend, in any bit, on what else is in the batch, on chunk borders, on
// who computed its prefix, on graph replay or on the number of workers.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "model/step_parts.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

using Logits = std::vector<std::vector<float>>;

constexpr int64_t kPrompt = 70;  // two whole blocks of 32 and a part
constexpr int64_t kLength = 74;
constexpr int kSharedBlocks = 2;

std::string Folder(const std::string& model) {
  return std::string(TIERCEL_TEST_DATA) + "/models/" + model;
}

std::vector<int32_t> RandomTokens(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 500);
  return tokens;
}

std::vector<int32_t> Slice(const std::vector<int32_t>& tokens, int64_t begin, int64_t end) {
  return {tokens.begin() + begin, tokens.begin() + end};
}

std::unique_ptr<ModelRunner> MakeRunner(const std::string& model,
                                        const kernels::KernelTable* kernels, const Team& team,
                                        model::GraphOptions graph = {}) {
  RunnerOptions options;
  options.kernels = kernels;
  options.team = team;
  options.graph = std::move(graph);
  auto runner = ModelRunner::Create(Folder(model), options);
  EXPECT_TRUE(runner.has_value()) << runner.error();
  return runner.has_value() ? std::move(*runner) : nullptr;
}

// The logits of the measured sequence when it runs alone: its prompt at once, then token by token.
Logits Alone(ModelRunner* runner, const std::vector<int32_t>& tokens) {
  const int sequence = runner->NewSequence();
  runner->Step({{sequence, Slice(tokens, 0, kPrompt)}});
  Logits logits = runner->logits();
  for (int64_t t = kPrompt; t < kLength; ++t) {
    runner->Step({{sequence, {tokens[t]}}});
    logits.push_back(runner->logits()[0]);
  }
  return logits;
}

class BatchInvarianceTest
    : public ::testing::TestWithParam<std::tuple<const char*, const kernels::KernelTable*, Team>> {
 protected:
  void SetUp() override {
    const auto [model, kernels, team] = GetParam();
    runner_ = MakeRunner(model, kernels, team);
    ASSERT_NE(runner_, nullptr);
    alone_ = Alone(runner_.get(), tokens_);
  }

  // Decodes the measured sequence as number `place` of `batch` sequences of various lengths.
  Logits DecodeInBatch(ModelRunner* runner, int batch, int place) {
    std::vector<int> sequences;
    for (int s = 0; s < batch; ++s) {
      sequences.push_back(runner->NewSequence());
      const std::vector<int32_t> prompt =
          s == place ? Slice(tokens_, 0, kPrompt) : RandomTokens(1 + s * 5 % 90, 1000 + s);
      runner->Step({{sequences.back(), prompt, false}});
    }
    Logits logits;
    for (int64_t t = kPrompt; t < kLength; ++t) {
      std::vector<ModelRunner::Part> parts;
      for (int s = 0; s < batch; ++s) {
        parts.push_back({sequences[s], {s == place ? tokens_[t] : (s * 7 + 3) % 500}});
      }
      runner->Step(parts);
      logits.push_back(runner->logits()[place]);
    }
    return logits;
  }

  Logits DecodedAlone() const { return {alone_.begin() + kPrompt, alone_.end()}; }

  const std::vector<int32_t> tokens_ = RandomTokens(kLength, 7);
  std::unique_ptr<ModelRunner> runner_;
  Logits alone_;
};

TEST_P(BatchInvarianceTest, OneWorkerOrMany) {
  const auto [model, kernels, team] = GetParam();
  if (team.workers == 1) return;
  const auto single = MakeRunner(model, kernels, {team.ranks, 1});
  ASSERT_NE(single, nullptr);
  EXPECT_EQ(Alone(single.get(), tokens_), alone_);
}

TEST_P(BatchInvarianceTest, ChunkedAtOddPlaces) {
  for (const int64_t first : {1, 5, 16, 31, 33, 64}) {
    const int sequence = runner_->NewSequence();
    Logits logits;
    int64_t chunk = first;
    for (int64_t at = 0; at < kLength; at += chunk, chunk = chunk * 3 % 23 + 1) {
      runner_->Step({{sequence, Slice(tokens_, at, std::min(at + chunk, kLength))}});
      logits.insert(logits.end(), runner_->logits().begin(), runner_->logits().end());
    }
    EXPECT_EQ(logits, alone_) << "first chunk of " << first;
  }
}

TEST_P(BatchInvarianceTest, BesideOtherDecodes) {
  for (const int batch : {2, 3, 5, 8, 9, 17, 64}) {
    EXPECT_EQ(DecodeInBatch(runner_.get(), batch, batch * 2 / 3), DecodedAlone())
        << "batch of " << batch;
  }
}

TEST_P(BatchInvarianceTest, BesidePrefills) {
  const int sequence = runner_->NewSequence();
  const int other = runner_->NewSequence();
  Logits logits;
  // The prompt in chunks, each with a chunk of another prompt before it and a fresh one after it.
  for (int64_t at = 0; at < kLength;) {
    const int64_t rows = at < kPrompt ? std::min<int64_t>(29, kPrompt - at) : 1;
    const std::vector<ModelRunner::Part> parts{
        {other, RandomTokens(13 + at % 5, 50 + static_cast<uint32_t>(at)), false},
        {sequence, Slice(tokens_, at, at + rows)},
        {runner_->NewSequence(), RandomTokens(37, 60 + static_cast<uint32_t>(at)), false}};
    runner_->Step(parts);
    logits.insert(logits.end(), runner_->logits().begin(), runner_->logits().end());
    at += rows;
  }
  EXPECT_EQ(logits, alone_);
}

TEST_P(BatchInvarianceTest, PrefixComputedByAnotherRequest) {
  const int64_t shared = kSharedBlocks * 32;
  const int first = runner_->NewSequence();
  // Written in chunks, beside another sequence, and continued differently.
  runner_->Step({{first, Slice(tokens_, 0, 21)}, {runner_->NewSequence(), RandomTokens(9, 3)}});
  runner_->Step({{first, Slice(tokens_, 21, shared)}});
  runner_->Step({{first, RandomTokens(17, 4)}});
  const int second = runner_->ShareSequence(first, shared);
  runner_->Step({{second, Slice(tokens_, shared, kLength)}});
  EXPECT_EQ(runner_->logits(), Logits(alone_.begin() + shared, alone_.end()));
}

TEST_P(BatchInvarianceTest, RecordedSteps) {
  const auto [model, kernels, team] = GetParam();
  model::GraphOptions graph;
  graph.mode = model::GraphMode::kFullDecodeOnly;
  graph.capture_sizes = {{12, 3, 33}};
  const auto runner = MakeRunner(model, kernels, team, graph);
  ASSERT_NE(runner, nullptr);
  for (const int batch : {1, 3, 4, 21, 40}) {
    const model::GraphStats before = runner->lm().graph_stats();
    EXPECT_EQ(DecodeInBatch(runner.get(), batch, batch / 2), DecodedAlone())
        << "batch of " << batch;
    const model::GraphStats stats = runner->lm().graph_stats();
    // Decodes up to the largest size replay, those of a size that is not listed after the first; prefills never do.
    const uint64_t decodes = kLength - kPrompt;
    const uint64_t replayed = batch > 33 ? 0 : batch == 3 ? decodes : decodes - 1;
    EXPECT_EQ(stats.replayed - before.replayed, replayed);
    EXPECT_EQ(stats.eager - before.eager, batch + decodes - replayed);
  }
}

// An engine's thread runs the steps, not the one that loaded the model.
TEST_P(BatchInvarianceTest, AnyThreadMayRun) {
  Logits logits;
  std::thread([&] { logits = Alone(runner_.get(), tokens_); }).join();
  EXPECT_EQ(logits, alone_);
}

constexpr auto kNameOf = [](const auto& info) {
  const auto& [model, kernels, team] = info.param;
  return TestName(model, *kernels, team);
};

INSTANTIATE_TEST_SUITE_P(
    All, BatchInvarianceTest,
    // KV heads: 2 (owned by 1 and 2 workers) and 3 (owned by 1 and 3). Workers that are not equal own none.
    ::testing::Combine(::testing::Values("qwen3-tied", "qwen2-tied-linear"),
                       ::testing::ValuesIn(AllKernels()), ::testing::Values(Team{1, 1}, Team{1, 2}, Team{1, 3}, Team{1, 4}, Team{1, 3, 1, 1, {32, 13, 13}})),
    kNameOf);

INSTANTIATE_TEST_SUITE_P(
    Ranks, BatchInvarianceTest,
    ::testing::Combine(::testing::Values("qwen3-tied"), ::testing::ValuesIn(FirstAndLastKernels()),
                       ::testing::Values(Team{2, 1}, Team{2, 2}, Team{4, 1}, Team{2, 1, 2}, Team{4, 1, 2}, Team{1, 2, 2, 2},
                                         Team{2, 2, 1, 1, {2, 1, 1, 2}})),
    kNameOf);

// FlashComm shares the rows of a step out among the ranks, in chunks; whose they are shows in no bit, nor
// does which rows become logits.
TEST(RanksTest, FlashCommChangesNoBit) {
  constexpr int64_t kLong = 1300;  // a whole chunk and a part of one
  const std::vector<int32_t> tokens = RandomTokens(kLong, 11);
  for (const auto& of :
       {std::pair{"qwen3-tied", Team{2, 1}}, {"qwen3-tied", Team{4, 1}}, {"qwen3-untied-yarn", Team{2, 2}},
        {"qwen2-tied-linear", Team{3, 1}}}) {
    const std::string model = of.first;
    const Team team = of.second;
    const auto run = [&](int64_t flashcomm_rows) {
      RunnerOptions options;
      options.team = team;
      options.graph.flashcomm_rows = flashcomm_rows;
      options.limits = {.max_rows = 2048, .max_seqs = 8, .logit_group_rows = 64, .max_context = 1400};
      auto runner = ModelRunner::Create(Folder(model), options);
      EXPECT_TRUE(runner.has_value()) << runner.error();
      const int prompt = (*runner)->NewSequence(), other = (*runner)->NewSequence();
      // Of the prompt no logits, of the other all; then all of a few; then all of many.
      (*runner)->Step({{prompt, tokens, false}, {other, Slice(tokens, 0, 5)}});
      Logits logits = (*runner)->logits();
      for (const auto& [begin, end] : {std::pair{0, 30}, {30, 95}}) {
        (*runner)->Step({{prompt, Slice(tokens, begin, end)}});
        logits.insert(logits.end(), (*runner)->logits().begin(), (*runner)->logits().end());
      }
      return logits;
    };
    const Logits without = run(-1);
    EXPECT_EQ(std::ssize(without), 100);
    for (const int64_t rows : {0, 50, 1000}) EXPECT_TRUE(run(rows) == without) << model << " " << rows;
  }
}

// What crosses between processes is what the ranks of one process read of each other: no bit depends on where a rank is.
TEST(RanksTest, ProcessesChangeNoBit) {
  constexpr int64_t kLong = 1300;
  const std::vector<int32_t> tokens = RandomTokens(kLong, 12);
  const auto run = [&](const std::string& model, Team team, int64_t flashcomm_rows, model::FuseSum fuse,
                       checkpoint::QuantizeTo quantize) {
    RunnerOptions options;
    options.team = team;
    options.graph.flashcomm_rows = flashcomm_rows;
    options.graph.fuse_sum = fuse;
    options.weights.quantize = quantize;
    options.limits = {.max_rows = 2048, .max_seqs = 70, .logit_group_rows = 64, .max_context = 1400};
    auto runner = ModelRunner::Create(Folder(model), options);
    EXPECT_TRUE(runner.has_value()) << runner.error();
    const int prompt = (*runner)->NewSequence(), other = (*runner)->NewSequence();
    // Of many rows some logits, and of all of them, in groups; a few; one; and one of each of many.
    Logits logits;
    const auto step = [&](const std::vector<ModelRunner::Part>& parts) {
      (*runner)->Step(parts);
      logits.insert(logits.end(), (*runner)->logits().begin(), (*runner)->logits().end());
    };
    step({{prompt, tokens, false}, {other, Slice(tokens, 0, 5)}});
    step({{prompt, Slice(tokens, 0, 95)}});
    step({{other, Slice(tokens, 5, 9)}});
    step({{other, Slice(tokens, 9, 10)}});
    std::vector<ModelRunner::Part> decodes;
    for (int i = 0; i < 40; ++i) decodes.push_back({(*runner)->NewSequence(), Slice(tokens, i, i + 1)});
    step(decodes);
    return logits;
  };
  for (const auto& [model, here, there] :
       {std::tuple{"qwen3-tied", Team{2, 1}, Team{2, 1, 2}}, {"qwen3-untied-yarn", Team{4, 1}, Team{4, 1, 2}},
        {"qwen2-tied-linear", Team{3, 1}, Team{3, 1, 3}}, {"qwen3-tied", Team{4, 1}, Team{4, 1, 4}},
        // The layers in stages: of one rank each, of two in a process, and of two in two.
        {"qwen3-tied", Team{1, 1}, Team{1, 1, 2, 2}}, {"qwen3-untied-yarn", Team{2, 1}, Team{2, 1, 2, 2}},
        {"qwen3-tied", Team{2, 1}, Team{2, 1, 4, 2}}, {"qwen3-tied", Team{4, 1}, Team{4, 1, 4, 2}}}) {
    for (const auto quantize : {checkpoint::QuantizeTo::kNone, checkpoint::QuantizeTo::kInt8}) {
      for (const auto& [rows, fuse] : {std::pair{-1, model::FuseSum::kNever}, {50, model::FuseSum::kNever},
                                       {-1, model::FuseSum::kAlways}, {50, model::FuseSum::kAlways}}) {
        const Logits expected = run(model, here, rows, fuse, quantize);
        EXPECT_EQ(std::ssize(expected), 5 + 95 + 4 + 1 + 40);
        EXPECT_TRUE(run(model, there, rows, fuse, quantize) == expected)
            << model << " " << TestName(there) << " flashcomm " << rows << " fuse " << static_cast<int>(fuse);
      }
    }
  }
}

// Of a model in stages several steps are under way: streams in turn, a prompt's parts behind each other, steps that
// replay, and those that are done before the next one starts, since their rows or their logits are many.
TEST(RanksTest, StepsUnderWayChangeNoBit) {
  constexpr int64_t kLong = 300, kGroup = 64, kDecodes = 4;
  const std::vector<int32_t> tokens = RandomTokens(kLong, 13);
  for (const auto& [model, team] :
       {std::pair{"qwen3-tied", Team{1, 1, 2, 2}}, {"qwen3-tied", Team{2, 1, 4, 2}}, {"qwen3-tied", Team{1, 2, 3, 3}},
        {"qwen3-untied-yarn", Team{1, 1, 2, 2}}}) {
    RunnerOptions options;
    options.graph.mode = model::GraphMode::kFullDecodeOnly;
    options.graph.capture_sizes = {{4}};
    options.limits = {.max_rows = 2 * model::kStepRows, .max_seqs = 70, .logit_group_rows = kGroup, .max_context = 3000};
    options.num_blocks = 400;
    options.team = {team.ranks, team.workers};
    const auto alone = ModelRunner::Create(Folder(model), options);
    options.team = team;
    const auto runner = ModelRunner::Create(Folder(model), options);
    ASSERT_TRUE(alone.has_value() && runner.has_value());
    const int stages = team.stages;
    ASSERT_EQ((*runner)->lm().max_under_way(), stages);
    // As many groups of three streams as stages; each step is of the group whose turn it is.
    std::vector<std::vector<ModelRunner::Part>> steps;
    const auto group_of = [&](int group, int64_t begin, int64_t end) {
      std::vector<ModelRunner::Part> parts;
      for (int i = 0; i < 3; ++i) parts.push_back({3 * group + i, Slice(tokens, begin + i, end + i), end - begin == 1});
      return parts;
    };
    for (int group = 0; group < stages; ++group) steps.push_back(group_of(group, 0, 40 + group));
    for (int64_t t = 0; t < kDecodes; ++t) {
      for (int group = 0; group < stages; ++group) steps.push_back(group_of(group, 50 + t, 51 + t));
    }
    const int prompt = 3 * stages;
    steps.push_back({{prompt, Slice(tokens, 0, 100), false}, {0, {5}}});
    steps.push_back({{prompt, Slice(tokens, 100, 130), false}, {1, {6}}});
    steps.push_back({{prompt, Slice(tokens, 130, 130 + 2 * kGroup + 7)}});  // three groups of logits
    steps.push_back({{prompt + 1, std::vector<int32_t>(model::kStepRows + 50, 9), false}, {2, {7}}});
    steps.push_back({{prompt, Slice(tokens, 280, 281)}, {3, {8}}});
    for (int i = 0; i < prompt + 2; ++i) {
      (*alone)->NewSequence();
      (*runner)->NewSequence();
    }
    std::vector<Logits> expected, found;
    for (const auto& step : steps) {
      (*alone)->Step(step);
      expected.push_back((*alone)->logits());
    }
    for (size_t i = 0; i < steps.size() + static_cast<size_t>(stages) - 1; ++i) {
      if (i < steps.size()) (*runner)->Start(steps[i]);
      if (i + 1 < static_cast<size_t>(stages)) continue;
      (*runner)->Finish();
      found.push_back((*runner)->logits());
    }
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < steps.size(); ++i) {
      EXPECT_TRUE(found[i] == expected[i]) << model << " " << TestName(team) << " step " << i;
    }
  }
}

// Two KV heads, three workers: they share the keys of a long context, or in steps of pa_shape_list a
// whole row and head each.
TEST(LongContextTest, WhoTakesWhichKeysChangesNoBit) {
  constexpr int64_t kPrompt = 1100, kDecodes = 3;  // two segments
  const std::vector<int32_t> tokens = RandomTokens(kPrompt + kDecodes, 9);
  for (const kernels::KernelTable* kernels : AllKernels()) {
    const auto decode = [&](int workers, const model::GraphOptions& graph, int others) {
      RunnerOptions options;
      options.kernels = kernels;
      options.team.workers = workers;
      options.graph = graph;
      options.limits.max_context = kPrompt + kDecodes;
      auto runner = ModelRunner::Create(Folder("qwen3-tied"), options);
      EXPECT_TRUE(runner.has_value()) << runner.error();
      const int sequence = (*runner)->NewSequence();
      for (int64_t at = 0; at < kPrompt; at += 275) {
        (*runner)->Step({{sequence, Slice(tokens, at, at + 275), false}});
      }
      Logits logits;
      for (int64_t t = kPrompt; t < kPrompt + kDecodes; ++t) {
        std::vector<ModelRunner::Part> parts{{sequence, {tokens[t]}}};
        for (int s = 0; s < others; ++s) parts.push_back({(*runner)->NewSequence(), {5}, true});
        (*runner)->Step(parts);
        logits.push_back((*runner)->logits()[0]);
      }
      return logits;
    };
    const Logits expected = decode(1, {}, 0);
    for (const std::vector<int64_t>& listed : {std::vector<int64_t>{}, {1, 4}}) {
      model::GraphOptions eager, graph;
      eager.pa_shape_list = graph.pa_shape_list = listed;
      graph.mode = model::GraphMode::kFullDecodeOnly;
      graph.capture_sizes = {{4}};
      EXPECT_EQ(decode(3, eager, 0), expected) << kernels->detail;
      EXPECT_EQ(decode(3, graph, 2), expected) << kernels->detail;
    }
  }
}

// A step with more rows than the activations hold runs in parts, and each passes through the MLP in
// parts of its own.
TEST(LongStepTest, EqualsShortSteps) {
  RunnerOptions options;
  options.limits = {.max_rows = 2 * model::kStepRows + 512, .max_seqs = 64, .logit_group_rows = 512};
  auto created = ModelRunner::Create(Folder("qwen3-tied"), options);
  ASSERT_TRUE(created.has_value()) << created.error();
  ModelRunner& runner = **created;
  const std::vector<int32_t> tokens = RandomTokens(300, 8);
  runner.Step({{runner.NewSequence(), tokens}});
  const Logits alone = runner.logits();

  // Its rows lie on both sides of a border between parts of the step, or of the MLP.
  for (const int64_t border : {model::kChunkRows, model::kStepRows, 2 * model::kStepRows}) {
    std::vector<ModelRunner::Part> parts;
    for (uint32_t s = 0; s < 14; ++s) {  // with the measured one 4500 rows: three parts
      parts.push_back({runner.NewSequence(), RandomTokens(300, 100 + s), false});
    }
    parts.insert(parts.begin() + border / 300, {runner.NewSequence(), tokens});
    runner.Step(parts);
    EXPECT_EQ(runner.logits(), alone) << "at row " << border;
  }
}

}  // namespace
}  // namespace tiercel::parity
