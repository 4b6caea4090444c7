#include "bench/sweep_figure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "api/json_reader.h"

namespace tiercel::bench {
namespace {

using api::Json;
using ::testing::HasSubstr;
using ::testing::Not;

Runs Table(std::string_view json) { return *api::ParseJson(json)->array(); }

const char* const kRuns = R"([
  {"rate": "inf", "seqs": 4, "kind": "a", "x": 1.0, "y": 10},
  {"rate": 2, "seqs": 4, "kind": "b", "x": 1.0, "y": 30},
  {"rate": 2.0, "seqs": 8, "kind": "a", "x": 2.5, "y": 40, "more": null},
  {"rate": null, "seqs": 8, "kind": "b", "x": 4, "y": 50, "more": true}])";

size_t Occurrences(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++count;
  return count;
}

size_t Left(std::string_view filter) { return Filtered(*ParseFilters(filter), Table(kRuns))->size(); }

TEST(RunTable, FiltersCompare) {
  EXPECT_EQ(Left(""), 4u);
  EXPECT_EQ(Left("seqs<8"), 2u);
  EXPECT_EQ(Left("seqs<=8,x>1"), 2u);
  EXPECT_EQ(Left("seqs>=8"), 2u);
  EXPECT_EQ(Left("kind==a"), 2u);
  EXPECT_EQ(Left("kind=='b',seqs!=4"), 1u);
  EXPECT_EQ(Left("rate==2"), 2u);
  EXPECT_EQ(Left("rate>100"), 1u);  // "inf"
  EXPECT_EQ(Left("rate!=2"), 2u);   // null is not equal to it
  EXPECT_EQ(Left("more==1"), 1u);
  EXPECT_EQ(Left("more<5"), 1u);
}

TEST(RunTable, WhatCannotBeFilteredIsSaid) {
  EXPECT_THAT(ParseFilters("seqs").error().message(), HasSubstr("--filter-by: found 'seqs'"));
  EXPECT_THAT(ParseFilters("seqs<many").error().message(), HasSubstr("a number behind <"));
  EXPECT_THAT(Filtered(*ParseFilters("sequences<3"), Table(kRuns)).error().message(),
              HasSubstr("found 'sequences', expected a key of the results: rate, seqs"));
}

TEST(RunTable, BinsRoundDown) {
  const Runs runs = *Binned(*ParseBins("x%2,y%20"), Table(kRuns));
  const double x[] = {0, 0, 2, 4}, y[] = {0, 20, 40, 40};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(NumberOf(*runs[i].Find("x")), x[i]) << i;
    EXPECT_EQ(NumberOf(*runs[i].Find("y")), y[i]) << i;
  }
  EXPECT_FALSE(ParseBins("x"));
  EXPECT_FALSE(ParseBins("x%0"));
  EXPECT_THAT(Binned(*ParseBins("kind%2"), Table(kRuns)).error().message(), HasSubstr("kind: found \"a\""));
}

TEST(RunTable, GroupsComeInOrder) {
  const auto groups = *GroupBy({"kind", "rate"}, Table(kRuns));
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(GroupText(groups[0].first, ", "), "kind=a, rate=inf");
  EXPECT_EQ(GroupText(groups[3].first, "-"), "kind=b-rate=None");
  EXPECT_EQ(GroupBy({"seqs"}, Table(kRuns))->size(), 2u);
  EXPECT_EQ(GroupBy({}, Table(kRuns))->size(), 1u);
  EXPECT_FALSE(GroupBy({"more"}, Table(kRuns)));
}

SweepFigure XY() {
  SweepFigure figure;
  figure.var_x = "x";
  figure.var_y = "y";
  return figure;
}

TEST(SweepFigure, HasAChartForEachCellAndACurveForEachGroup) {
  SweepFigure figure = XY();
  figure.row_by = {"seqs"};
  figure.curve_by = {"kind"};
  const FigureGrid grid = *GridOf(figure, Table(kRuns));
  EXPECT_EQ(grid.rows, 2u);
  EXPECT_EQ(grid.columns, 1u);
  const std::string svg = *RenderSweepFigure(figure, {{"model", "<m>"}}, Table(kRuns));
  EXPECT_THAT(svg, HasSubstr(">seqs=4</text>"));
  EXPECT_THAT(svg, HasSubstr(">kind=b</text>"));
  EXPECT_THAT(svg, HasSubstr("model=&lt;m&gt;; 4 runs"));
  EXPECT_EQ(Occurrences(svg, "<circle "), 4u);
  EXPECT_EQ(Occurrences(svg, "class=\"line\""), 4u);  // two curves in each of two charts
}

TEST(SweepFigure, LinesGoThroughTheMean) {
  // Both runs at x = 1 average 20; the axes end at 4.4 and 55, and a chart is 420 × 280 at (90, 100).
  const std::string svg = *RenderSweepFigure(XY(), {}, Table(kRuns));
  EXPECT_THAT(svg, HasSubstr("d=\"M185.5 278.2L328.6 176.4L471.8 125.5\""));
}

TEST(SweepFigure, WhatAnAxisCannotShowIsCounted) {
  SweepFigure figure = XY();
  figure.var_x = "rate";
  const std::string svg = *RenderSweepFigure(figure, {}, Table(kRuns));
  EXPECT_EQ(Occurrences(svg, "<circle "), 2u);
  EXPECT_THAT(svg, HasSubstr("4 runs; 2 runs without a value"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(SweepFigure, WhatIsWrongIsSaid) {
  SweepFigure figure = XY();
  figure.var_y = "kind";
  EXPECT_THAT(RenderSweepFigure(figure, {}, Table(kRuns)).error().message(), HasSubstr("--var-y: kind: found \"a\""));
  figure.var_y = "z";
  EXPECT_THAT(RenderSweepFigure(figure, {}, Table(kRuns)).error().message(), HasSubstr("--var-y: found 'z'"));
  figure = XY();
  figure.filters = *ParseFilters("x>9");
  EXPECT_THAT(RenderSweepFigure(figure, {}, Table(kRuns)).error().message(), HasSubstr("found 0 of 4 runs"));
}

TEST(SvgChart, LogarithmicAndRootAxes) {
  SvgChart chart({.x = 100, .y = 50, .width = 200, .height = 400}, "t",
                 {.label = "x", .max = 100, .scale = SvgChart::Scale::kLog, .min = 1},
                 {.label = "y", .max = 16, .scale = SvgChart::Scale::kSqrt});
  chart.Dot({10, 4}, "red");  // half of each
  EXPECT_THAT(chart.elements(), HasSubstr("cx=\"200.0\" cy=\"250.0\""));
  for (const char* tick : {">1<", ">2<", ">5<", ">10<", ">20<", ">50<", ">100<"}) EXPECT_THAT(chart.elements(), HasSubstr(tick));
  // A minimum that no logarithm has: two decades.
  SvgChart odd({.x = 0, .y = 0, .width = 100, .height = 100}, "t", {.label = "x", .max = 1, .scale = SvgChart::Scale::kLog}, {});
  odd.Dot({0.1, 0}, "red");
  EXPECT_THAT(odd.elements(), HasSubstr("cx=\"50.0\""));
}

}  // namespace
}  // namespace tiercel::bench
