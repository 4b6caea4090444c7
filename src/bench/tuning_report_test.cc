#include "bench/tuning_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tiercel::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Contender Of(Setting setting, std::vector<double> scores) {
  return {std::move(setting), std::move(scores), {}, {}, {}};
}

TuningReport Report() {
  TuningReport report;
  report.load = "random:200/128@8";
  report.goal = "throughput";
  report.figure = *TuningGoal::Parse("throughput");
  report.command = {"tiercel", "serve", "my model"};
  report.knobs.knobs = {{"quantization", {{}, {{"--quantization", "int8"}, true}}},
                        {"prefetch", {{}, {{"--x", "[1]"}}, {{"--broken"}}}}};
  Race first;
  first.contenders = {Of({0, 0}, {100, 100, 100}), Of({1, 0}, {150, 150, 150})};
  first.contenders[1].screening = {0};  // does not count beside the duel
  first.contenders[1].duel = {std::log(1.5), std::log(1.5), std::log(1.5)};
  first.finalist = 1;
  first.verdict = Verdict::kBetter;
  Race second;
  second.contenders = {Of({1, 0}, {150}), Of({1, 1}, {151}), Of({1, 2}, {})};
  second.contenders[1].duel = {0.01, -0.01, -0.02};
  second.contenders[2].refusal = "no such thing";
  second.finalist = 1;
  report.result.races = {first, second};
  report.result.last = first;
  report.result.last.contenders[0].scores = {100, 100, 100, 100};
  report.result.best = {1, 0};
  report.result.complete = true;
  report.result.runs = 8;
  report.result.seconds = 80;
  return report;
}

TEST(TuningReport, ShowsWhatEachSettingGaveAndWhatToUse) {
  const std::string text = RenderTuning(Report());
  EXPECT_THAT(text, HasSubstr("\nquantization\n"));
  EXPECT_THAT(text, HasSubstr("150  +50.0 % (+50.0 … +50.0)"));
  EXPECT_THAT(text, HasSubstr("--quantization int8 [better]"));
  EXPECT_THAT(text, HasSubstr("(as given) [beaten]"));
  EXPECT_THAT(text, HasSubstr("\nprefetch (with --quantization int8)\n"));
  EXPECT_THAT(text, HasSubstr("  --x '[1]' [not better than the noise]"));
  EXPECT_THAT(text, HasSubstr("[cannot run: no such thing]"));
  EXPECT_THAT(text, HasSubstr("8 runs in 80 s."));
  EXPECT_THAT(text, HasSubstr("What was found gives +50.0 %"));
  EXPECT_THAT(text, HasSubstr("It changes the tokens"));
  EXPECT_TRUE(text.ends_with("\nUse:\n  tiercel serve 'my model' --quantization int8\n"));
}

TEST(TuningReport, SaysThatNothingIsBetter) {
  TuningReport report = Report();
  report.result.races.resize(1);
  report.result.last = {};
  report.result.races[0].verdict = Verdict::kNotBetter;
  report.result.best = {0, 0};
  EXPECT_THAT(RenderTuning(report), HasSubstr("No setting is better than the noise.\n"));
  EXPECT_THAT(RenderTuning(report), Not(HasSubstr("It changes the tokens")));
  EXPECT_TRUE(RenderTuning(report).ends_with("\nUse:\n  tiercel serve 'my model'\n"));
  report.result.complete = false;
  report.max_seconds = 60;
  EXPECT_THAT(RenderTuning(report), HasSubstr("(--max-seconds 60) was over"));
  EXPECT_THAT(RenderTuning(report), HasSubstr("Up to there no setting was better than the noise.\n"));
}

TEST(TuningReport, DrawsABarForEachSettingThatRan) {
  const std::string plot = RenderTuningPlot(Report());
  const auto count = [&](std::string_view part) {
    size_t n = 0;
    for (size_t at = 0; (at = plot.find(part, at)) != std::string::npos; at += part.size()) ++n;
    return n;
  };
  EXPECT_EQ(count("<rect "), 1u + 4u + 2u + 3u);  // the background, the races' settings, the last ones, the legend
  EXPECT_EQ(count("<circle "), 3u + 3u + 1u + 1u + 4u + 3u);
  EXPECT_THAT(plot, HasSubstr("quantization: --quantization int8<"));
  EXPECT_TRUE(plot.starts_with("<svg ") && plot.ends_with("</svg>\n"));
}

TEST(TuningReport, JsonHasEveryFigure) {
  TuningReport report = Report();
  report.goal = "ttft";
  report.figure = *TuningGoal::Parse("ttft");
  report.result.races[0].contenders[0].scores = {0.01, 0.002};  // one by milliseconds
  const api::Json json = TuningJson(report);
  EXPECT_EQ(json.Find("command")->Dump(), R"(["tiercel","serve","my model","--quantization","int8"])");
  const api::Json& first = json.Find("races")->array()->at(0);
  EXPECT_EQ(*first.FindString("knobs"), "quantization");
  EXPECT_EQ(first.Find("settings")->array()->at(0).Find("figures")->array()->at(1).real(), 500);
}

TEST(ShellText, IsWhatAShellReads) {
  EXPECT_EQ(ShellText({"a", "b c", "it's", "", "[1]", "--x=1,2"}), "a 'b c' 'it'\\''s' '' '[1]' --x=1,2");
}

}  // namespace
}  // namespace tiercel::bench
