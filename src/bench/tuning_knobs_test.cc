#include "bench/tuning_knobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "bench/tuning_goal.h"

namespace tiercel::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The load on the development machine.
TuningSubject Subject() {
  TuningSubject subject;
  subject.concurrency = 8;
  subject.longest_prompt = 200;
  subject.cores = 2;
  subject.num_heads = 16;
  subject.num_kv_heads = 8;
  return subject;
}

TuningKnobs Make(const TuningSubject& subject, const std::vector<std::string>& given = {},
                 const std::vector<std::string>& names = {}) {
  auto knobs = MakeTuningKnobs(
      subject,
      [&](std::string_view flag) { return std::find(given.begin(), given.end(), flag) != given.end(); }, names);
  EXPECT_TRUE(knobs) << knobs.error();
  return knobs ? *knobs : TuningKnobs{};
}

std::vector<std::string> Names(const TuningKnobs& knobs) {
  std::vector<std::string> names;
  for (const TuningKnob& knob : knobs.knobs) names.push_back(knob.name);
  return names;
}

// The values of one knob but the first, each as a line.
std::vector<std::string> Values(const TuningKnobs& knobs, std::string_view name) {
  std::vector<std::string> lines;
  for (const TuningKnob& knob : knobs.knobs) {
    if (knob.name != name) continue;
    EXPECT_THAT(knob.values[0].words, IsEmpty());
    for (size_t i = 1; i < knob.values.size(); ++i) {
      std::string line;
      for (const std::string& word : knob.values[i].words) line += (line.empty() ? "" : " ") + word;
      lines.push_back(line);
    }
  }
  return lines;
}

TEST(TuningKnobs, FitLoadAndMachine) {
  const TuningKnobs knobs = Make(Subject());
  EXPECT_THAT(Names(knobs), ElementsAre("quantization", "ranks", "max-num-batched-tokens", "max-num-seqs",
                                        "kv-cache-dtype", "prefetch", "async-scheduling"));
  EXPECT_THAT(knobs.space.groups, ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(2, 3), ElementsAre(4),
                                              ElementsAre(5), ElementsAre(6)));
  ASSERT_EQ(knobs.space.num_values.size(), knobs.knobs.size());
  for (size_t i = 0; i < knobs.knobs.size(); ++i) {
    EXPECT_EQ(knobs.space.num_values[i], static_cast<int>(knobs.knobs[i].values.size()));
  }
  // 1600 tokens at once: what is above them is the default's.
  EXPECT_THAT(Values(knobs, "max-num-batched-tokens"),
              ElementsAre("--max-num-batched-tokens 1024", "--max-num-batched-tokens 512",
                          "--max-num-batched-tokens 256"));
  EXPECT_THAT(Values(knobs, "max-num-seqs"), ElementsAre("--max-num-seqs 4"));
  EXPECT_THAT(Values(knobs, "ranks"),
              ElementsAre("--data-parallel-size 2", "--tensor-parallel-size 2",
                          "--tensor-parallel-size 2 --additional-config.enable_flashcomm1 true"));
}

TEST(TuningKnobs, OneRequestAtATimeHasFewer) {
  TuningSubject subject = Subject();
  subject.concurrency = 1;
  const TuningKnobs knobs = Make(subject);
  EXPECT_THAT(Values(knobs, "max-num-batched-tokens"), ElementsAre("--max-num-batched-tokens 256"));
  EXPECT_THAT(Values(knobs, "max-num-seqs"), IsEmpty());
  EXPECT_THAT(Values(knobs, "ranks"), ElementsAre("--tensor-parallel-size 2"));  // a second engine has nothing to do
}

TEST(TuningKnobs, LargeMachinesAreDividedByNodes) {
  TuningSubject subject = Subject();
  subject.cores = 64;
  subject.nodes = 2;
  subject.longest_prompt = 10;
  EXPECT_THAT(Values(Make(subject), "ranks"),
              ElementsAre("--data-parallel-size 2", "--data-parallel-size 4", "--tensor-parallel-size 2",
                          "--tensor-parallel-size 2 --data-parallel-size 2", "--tensor-parallel-size 4"));
  // 8 KV heads do not give each of 64 workers whole ones.
  EXPECT_THAT(Values(Make(subject), "pa-shape-list"),
              ElementsAre("--additional-config.pa_shape_list [1,2,3,4,5,6,7,8]"));
  subject.cores = 1;
  subject.nodes = 1;
  EXPECT_THAT(Values(Make(subject), "ranks"), IsEmpty());
}

TEST(TuningKnobs, WhatTheUserHasDecidedIsNotVaried) {
  EXPECT_THAT(Names(Make(Subject(), {"quantization", "max-num-seqs", "enforce-eager", "tensor-parallel-size",
                                     "additional-config"})),
              ElementsAre("max-num-batched-tokens", "kv-cache-dtype", "async-scheduling"));
  EXPECT_THAT(Names(Make(Subject(), {}, {"prefetch", "max-num-seqs"})), ElementsAre("max-num-seqs", "prefetch"));
  TuningSubject subject = Subject();
  subject.float_weights = false;
  EXPECT_THAT(Values(Make(subject), "quantization"), IsEmpty());
  const auto unknown = MakeTuningKnobs(Subject(), [](std::string_view) { return false; }, {"speed"});
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message(), HasSubstr("--knobs: found 'speed', expected some of quantization, ranks"));
}

TEST(TuningKnobs, ExactLeavesTheTokensAsTheyAre) {
  const TuningKnobs all = Make(Subject());
  Setting setting(all.knobs.size());
  setting[0] = 2;
  setting[3] = 1;
  EXPECT_THAT(all.WordsOf(setting), ElementsAre("--quantization", "int8", "--additional-config.quantize_lm_head",
                                                "true", "--max-num-seqs", "4"));
  EXPECT_TRUE(all.ChangesTokens(setting));
  setting[0] = 0;
  EXPECT_FALSE(all.ChangesTokens(setting));
  TuningSubject subject = Subject();
  subject.exact = true;
  const TuningKnobs exact = Make(subject);
  for (const TuningKnob& knob : exact.knobs) {
    for (const TuningValue& value : knob.values) EXPECT_FALSE(value.changes_tokens) << knob.name;
  }
  EXPECT_THAT(Values(exact, "quantization"), IsEmpty());
  EXPECT_THAT(Values(exact, "ranks"), ElementsAre("--data-parallel-size 2"));  // a copy of the engine: the same sums
}

TEST(TuningLoad, RandomAndFiles) {
  const auto random = ParseTuningLoad("random:200/128@8", 0);
  ASSERT_TRUE(random) << random.error();
  EXPECT_EQ(random->data_set.name, "random");
  EXPECT_EQ(random->data_set.random.input_len, 200);
  EXPECT_EQ(random->data_set.random.output_len, 128);
  EXPECT_EQ(random->data_set.num_prompts, 8);
  EXPECT_EQ(random->max_concurrency, 8);
  EXPECT_EQ(ParseTuningLoad("random:200/128@8", 20)->data_set.num_prompts, 20);
  const auto file = ParseTuningLoad("a@b/requests.jsonl@32", 0);
  ASSERT_TRUE(file) << file.error();
  EXPECT_EQ(file->data_set.name, "custom");
  EXPECT_EQ(file->data_set.path, "a@b/requests.jsonl");
  EXPECT_EQ(file->data_set.num_prompts, 64);
  EXPECT_EQ(file->max_concurrency, 32);
  EXPECT_EQ(ParseTuningLoad("share.json", 0)->data_set.name, "sharegpt");
  EXPECT_EQ(ParseTuningLoad("share.json", 0)->max_concurrency, 0);
  EXPECT_EQ(ParseTuningLoad("burst.csv@2", 0)->data_set.name, "burstgpt");
  for (const char* bad : {"", "@8", "random:", "random:200@8", "random:200/128", "random:0/128@8", "random:1/2/3@8",
                          "random:200/128@0", "random:1e9/1@8", "random:9/9@70000"}) {
    const auto load = ParseTuningLoad(bad, 0);
    ASSERT_FALSE(load) << bad;
    EXPECT_THAT(load.error().message(), HasSubstr("--load"));
  }
}

TEST(TuningGoal, ScoresAreBetterWhenLarger) {
  Metrics metrics;
  metrics.output_throughput = 120;
  metrics.ttft.mean = 400;
  metrics.itl.mean = 50;
  metrics.request_goodput = 1.5;
  const auto figure = [&](const char* text) {
    const auto goal = TuningGoal::Parse(text);
    EXPECT_TRUE(goal) << goal.error();
    Metrics worse = metrics;
    worse.output_throughput = 100;
    worse.ttft.mean = 500;
    worse.itl.mean = 60;
    worse.request_goodput = 1;
    EXPECT_GT(goal->Score(metrics), goal->Score(worse));
    return goal->Figure(goal->Score(metrics));
  };
  EXPECT_DOUBLE_EQ(figure("throughput"), 120);
  EXPECT_DOUBLE_EQ(figure("ttft"), 400);
  EXPECT_DOUBLE_EQ(figure("itl"), 50);
  EXPECT_DOUBLE_EQ(figure("goodput:ttft:500,tpot:60.5"), 1.5);
  EXPECT_EQ(TuningGoal::Parse("goodput:ttft:500,tpot:60.5")->goodput_ms().at("tpot"), 60.5);
  for (const char* bad : {"", "speed", "goodput", "goodput:", "goodput:ttft", "goodput:ttft:x", "goodput:itl:5"}) {
    const auto goal = TuningGoal::Parse(bad);
    ASSERT_FALSE(goal) << bad;
    EXPECT_THAT(goal.error().message(), HasSubstr("--goal"));
  }
}

}  // namespace
}  // namespace tiercel::bench
