#include "bench/plot.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "bench/svg_chart.h"

namespace tiercel::bench {
namespace {

size_t Count(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++count;
  return count;
}

Outcome Request(double start_s, double ttft_s, int chunks, double itl_s) {
  Outcome outcome;
  outcome.success = true;
  outcome.start_s = start_s;
  outcome.ttft_s = ttft_s;
  outcome.itls_s.assign(static_cast<size_t>(chunks - 1), itl_s);
  outcome.latency_s = ttft_s + itl_s * (chunks - 1);
  outcome.output_tokens = chunks;
  return outcome;
}

LoadResult Load(int requests) {
  LoadResult load;
  load.start_s = 100;
  load.duration_s = 10;
  for (int i = 0; i < requests; ++i) load.outcomes.push_back(Request(100 + i % 8, 0.5, 4, 0.25));
  return load;
}

std::string Render(const LoadResult& load, const ServeRun& run = {}) {
  return RenderServePlot(run, CalculateMetrics(load.outcomes, load.duration_s, {}), load);
}

TEST(SvgChart, TicksAreRoundAndSomeFive) {
  EXPECT_DOUBLE_EQ(TickStep(100), 20);
  EXPECT_DOUBLE_EQ(TickStep(1), 0.2);
  EXPECT_DOUBLE_EQ(TickStep(7), 2);
  EXPECT_DOUBLE_EQ(TickStep(30000), 10000);
  EXPECT_DOUBLE_EQ(TickStep(0.0003), 0.0001);
  for (double max = 1e-6; max < 1e9; max *= 1.7) {
    const double ticks = max / TickStep(max);
    EXPECT_GE(ticks, 2 - 1e-9) << max;
    EXPECT_LE(ticks, 5 + 1e-6) << max;
  }
}

TEST(SvgChart, PlacesValuesBetweenTheAxes) {
  SvgChart chart({.x = 100, .y = 50, .width = 200, .height = 400}, "t", {.label = "x", .max = 10},
                 {.label = "y", .max = 8});
  chart.Dot({5, 2}, "red");
  EXPECT_NE(chart.elements().find("cx=\"200.0\" cy=\"350.0\""), std::string::npos);
  chart.Dot({50, -3}, "red");  // outside: at the edge
  EXPECT_NE(chart.elements().find("cx=\"300.0\" cy=\"450.0\""), std::string::npos);
  chart.Bar(2, 4, 4, 10, "blue");
  EXPECT_NE(chart.elements().find("x=\"140.0\" y=\"245.00\" width=\"40.0\" height=\"10.00\""),
            std::string::npos);
}

TEST(SvgChart, TextIsNoMarkup) {
  EXPECT_EQ(XmlText("a<b>&\"c\"\x01\n"), "a&lt;b&gt;&amp;&quot;c&quot;  ");
}

TEST(ServePlot, HasARowForEachCompletedRequest) {
  LoadResult load = Load(5);
  load.outcomes[2].success = false;
  load.outcomes[2].error = "HTTP 500";
  const std::string plot = Render(load);
  // Waiting, prompt and answer of four requests, the legends' squares, and the background.
  EXPECT_EQ(Count(plot, "<rect "), 4u * 3 + (3 + 2 + 3) + 1);
  EXPECT_NE(plot.find("4 requests, 1 failed, in 10.0 s"), std::string::npos);
  EXPECT_EQ(Count(plot, "<circle "), 10u);  // a dot for each second
}

TEST(ServePlot, SmallValuesAreScaledAndSaySo) {
  LoadResult load;
  load.duration_s = 1;
  load.outcomes = {Request(0, 0.1, 100, 0.005)};  // 100 tokens in a second of which it ran 0.595
  const std::string plot = Render(load);
  EXPECT_NE(plot.find(">running requests, times 100<"), std::string::npos);
  EXPECT_NE(plot.find(">per token, times 100<"), std::string::npos);  // 5 ms beside 595 ms
  EXPECT_NE(plot.find(">output tokens a second<"), std::string::npos);
}

TEST(ServePlot, IsBounded) {
  LoadResult load = Load(20000);
  load.duration_s = 1e7;
  EXPECT_LT(Render(load).size(), size_t{400'000});
}

TEST(ServePlot, OfNothingAndOfOddTimesIsADocument) {
  LoadResult empty;
  LoadResult odd = Load(2);
  odd.duration_s = 0;
  odd.outcomes[0].latency_s = 0;
  odd.outcomes[1].itls_s.clear();
  for (const LoadResult& load : {empty, odd}) {
    const std::string plot = Render(load);
    EXPECT_TRUE(plot.starts_with("<svg ")) << plot;
    EXPECT_TRUE(plot.ends_with("</svg>\n"));
    EXPECT_EQ(plot.find("nan"), std::string::npos);
    EXPECT_EQ(plot.find("inf\""), std::string::npos);
  }
}

TEST(ServePlot, NamesTheModelAsText) {
  ServeRun run;
  run.label = "a<b";
  run.model_id = "c&d";
  const std::string plot = Render(Load(1), run);
  EXPECT_NE(plot.find("a&lt;b: c&amp;d"), std::string::npos);
}

}  // namespace
}  // namespace tiercel::bench
