// Shared by the engine's tests: a tiny engine over FakeLm, and what it must produce.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/fake_lm.h"
#include "sampling/random.h"
#include "sampling/sampler.h"

namespace tiercel::engine {

struct TestEngine {
  std::unique_ptr<Engine> engine;
  FakeLm* lm = nullptr;  // owned by the engine
};

// How an engine runs its steps: planned ahead or not, so many of them under way.
struct Mode {
  bool async = false;
  int under_way = 1;
  bool drafts = false;

  void Set(EngineOptions* options) const {
    options->async_scheduling = async;
    if (drafts) options->drafts = {.num_tokens = 5, .lookup_min = 1, .lookup_max = 3};
  }
};
inline const Mode kModes[] = {{false, 1}, {true, 1}, {false, 2}, {true, 3}, {false, 1, true}};
inline std::string NameOf(const testing::TestParamInfo<Mode>& info) {
  const Mode& mode = info.param;
  return std::string(mode.drafts ? "Drafts" : mode.async ? "Async" : "Sync") +
         (mode.under_way > 1 ? std::to_string(mode.under_way) + "UnderWay" : "");
}

inline TestEngine MakeEngine(EngineOptions options, FakeLmOptions fake = {}) {
  auto lm = std::make_unique<FakeLm>(std::move(fake));
  TestEngine test;
  test.lm = lm.get();
  auto engine = Engine::Create(std::move(options), nullptr, std::move(lm));
  EXPECT_TRUE(engine.has_value()) << (engine ? "" : engine.error().message());
  if (engine) test.engine = std::move(*engine);
  return test;
}

// A gap for each token but a sequence's first ones and those that a guess gave (of which the last may not have counted).
inline void ExpectGapsBetweenSteps(const Stats& stats) {
  const uint64_t steps = stats.inter_token_latency.count + stats.time_to_first_token.count;
  EXPECT_LE(steps, stats.generation_tokens);
  EXPECT_GE(steps + stats.drafts.accepted, stats.generation_tokens);
}

inline EngineOptions SmallOptions() {
  EngineOptions options;
  options.max_model_len = 256;
  options.max_num_batched_tokens = 32;
  options.max_num_seqs = 8;
  options.block_size = 4;
  options.eos_token_ids = {100, 99};
  return options;
}

inline std::vector<int32_t> MakePrompt(int64_t length, int32_t start, int32_t step = 7) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < length; ++i) {
    prompt.push_back(static_cast<int32_t>((start + i * step) % 97));
  }
  return prompt;
}

struct Outcome {
  std::vector<OutputToken> tokens;
  FinishReason finish = FinishReason::kNone;
  std::optional<int32_t> stop_token;

  std::vector<int32_t> ids() const {
    std::vector<int32_t> ids;
    for (const OutputToken& t : tokens) ids.push_back(t.token);
    return ids;
  }
};

// Reads a stream to its end.
inline std::vector<Outcome> Collect(Stream* stream, int n = 1) {
  std::vector<Outcome> outcomes(static_cast<size_t>(n));
  std::vector<StreamEvent> events;
  while (!stream->finished()) {
    if (!stream->Wait(20)) {
      ADD_FAILURE() << "no news for 20 seconds";
      return outcomes;
    }
    stream->Poll(&events);
    for (StreamEvent& event : events) {
      Outcome& o = outcomes[static_cast<size_t>(event.index)];
      EXPECT_EQ(o.finish, FinishReason::kNone) << "an event after the last one";
      for (OutputToken& token : event.tokens) o.tokens.push_back(std::move(token));
      o.finish = event.finish;
      o.stop_token = event.stop_token;
    }
  }
  return outcomes;
}

// A request whose parameters a test may still change; handed over as the engine takes it.
struct TestRequest {
  std::string id;
  std::vector<int32_t> prompt;
  sampling::SamplingParams params;
  int priority = 0;
  std::string cache_salt;

  operator Request() const {  // NOLINT: what Submit takes
    auto shared = std::make_shared<sampling::SamplingParams>(params);
    const Status status = shared->Validate(FakeLmOptions().vocab_size, /*max_logprobs=*/-1);
    EXPECT_TRUE(status.ok()) << status.message();
    return {id, prompt, std::move(shared), nullptr, priority, cache_salt, std::nullopt};
  }
};

// What a sample must be: token by token, without any engine.
inline Outcome Reference(const TestRequest& request, const EngineOptions& options, int64_t vocab_size,
                        int64_t max_length, int index = 0) {
  Outcome outcome;
  sampling::SamplingParams params = request.params;
  EXPECT_TRUE(params.Validate(vocab_size, -1).ok());
  const auto shared = std::make_shared<sampling::SamplingParams>(params);
  sampling::SequenceState state(
      std::make_shared<sampling::SamplingContext>(shared, request.prompt, options.eos_token_ids),
      sampling::SampleSeed(params.seed.value_or(0), index));
  sampling::Sampler sampler(sampling::PortableVectorOps(), vocab_size, options.logprobs_mode);
  std::vector<int32_t> tokens = request.prompt;
  std::vector<float> logits(static_cast<size_t>(vocab_size));
  const auto contains = [](const std::vector<int32_t>& ids, int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  while (outcome.finish == FinishReason::kNone) {
    FakeLm::LogitsOf(tokens, vocab_size, logits.data());
    sampling::SampledToken sampled;
    EXPECT_TRUE(sampler.Sample(logits.data(), &state, &sampled).ok());
    tokens.push_back(sampled.token);
    outcome.tokens.push_back({sampled.token, std::move(sampled.top)});
    const auto length = static_cast<int64_t>(outcome.tokens.size());
    if (length >= params.min_tokens) {
      if (!params.ignore_eos && sampled.token == options.eos_token_ids[0]) {
        outcome.finish = FinishReason::kStop;
        break;
      }
      if (contains(params.stop_token_ids, sampled.token) ||
          (!params.ignore_eos && contains(options.eos_token_ids, sampled.token))) {
        outcome.finish = FinishReason::kStop;
        outcome.stop_token = sampled.token;
        break;
      }
    }
    if (length >= params.max_tokens || static_cast<int64_t>(tokens.size()) >= max_length) {
      outcome.finish = FinishReason::kLength;
    }
  }
  return outcome;
}

inline void ExpectEqual(const Outcome& found, const Outcome& expected) {
  EXPECT_EQ(found.ids(), expected.ids());
  EXPECT_EQ(found.finish, expected.finish);
  EXPECT_EQ(found.stop_token, expected.stop_token);
  if (found.tokens.size() != expected.tokens.size()) return;
  for (size_t i = 0; i < found.tokens.size(); ++i) {
    const auto& a = found.tokens[i].top;
    const auto& b = expected.tokens[i].top;
    ASSERT_EQ(a.size(), b.size());
    for (size_t j = 0; j < a.size(); ++j) {
      EXPECT_EQ(a[j].token, b[j].token);
      EXPECT_EQ(a[j].logprob, b[j].logprob);
      EXPECT_EQ(a[j].rank, b[j].rank);
    }
  }
}

}  // namespace tiercel::engine
