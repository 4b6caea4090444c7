#include "bench/sweep_figure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>

namespace tiercel::bench {
namespace {

using api::Json;
using Scale = SvgChart::Scale;

constexpr double kChartWidth = 420, kChartHeight = 280;  // within the axes
constexpr double kLeft = 90, kTop = 100, kGapX = 110, kGapY = 100, kLegendWidth = 300;

// Neighbors differ most: each hue is a golden angle on.
std::string ColorOf(size_t curve) { return fmt::format("hsl({:.0f},65%,40%)", std::fmod(205 + 137.508 * curve, 360)); }

using Curve = std::pair<size_t, std::vector<Point>>;  // of which group
struct Cell {
  size_t row, column;
  std::vector<Curve> curves;
};

struct Plotted {
  std::vector<Cell> cells;
  std::vector<RunGroup> rows, columns, curves;
  size_t left_out = 0;
  double low_x, high_x = 0, low_y, high_y = 0;
};

size_t IndexOf(const std::vector<RunGroup>& groups, const RunGroup& group) {
  return static_cast<size_t>(std::find(groups.begin(), groups.end(), group) - groups.begin());
}

Expected<std::vector<RunGroup>> GroupsOf(std::string_view flag, const std::vector<std::string>& keys, const Runs& runs) {
  RETURN_IF_ERROR(CheckKeys(flag, keys, runs));
  ASSIGN_OR_RETURN(const auto groups, GroupBy(keys, runs));
  std::vector<RunGroup> names;
  for (const auto& group : groups) names.push_back(group.first);
  return names;
}

// What an axis cannot show is NaN.
Expected<double> ValueOf(std::string_view flag, const std::string& key, Scale scale, const Json& run) {
  const Json* value = run.Find(key);
  if (value == nullptr || value->is_null()) return std::nan("");
  const std::optional<double> number = NumberOf(*value);
  if (!number) {
    return Unexpected(InvalidArgument("argument {}: {}: found {}, expected numbers", flag, key, value->DumpStart(64)));
  }
  return std::isfinite(*number) && (scale != Scale::kLog || *number > 0) ? *number : std::nan("");
}

Expected<Plotted> Plot(const SweepFigure& figure, const Runs& runs) {
  Plotted plotted;
  plotted.low_x = plotted.low_y = std::numeric_limits<double>::infinity();
  RETURN_IF_ERROR(CheckKeys("--var-x", {figure.var_x}, runs));
  RETURN_IF_ERROR(CheckKeys("--var-y", {figure.var_y}, runs));
  ASSIGN_OR_RETURN(plotted.rows, GroupsOf("--row-by", figure.row_by, runs));
  ASSIGN_OR_RETURN(plotted.columns, GroupsOf("--col-by", figure.col_by, runs));
  ASSIGN_OR_RETURN(plotted.curves, GroupsOf("--curve-by", figure.curve_by, runs));
  ASSIGN_OR_RETURN(const auto by_row, GroupBy(figure.row_by, runs));
  for (const auto& [row, row_runs] : by_row) {
    ASSIGN_OR_RETURN(const auto by_column, GroupBy(figure.col_by, row_runs));
    for (const auto& [column, cell_runs] : by_column) {
      Cell cell{IndexOf(plotted.rows, row), IndexOf(plotted.columns, column), {}};
      ASSIGN_OR_RETURN(const auto by_curve, GroupBy(figure.curve_by, cell_runs));
      for (const auto& [curve, curve_runs] : by_curve) {
        std::vector<Point> points;
        for (const Json& run : curve_runs) {
          ASSIGN_OR_RETURN(const double x, ValueOf("--var-x", figure.var_x, figure.scale_x, run));
          ASSIGN_OR_RETURN(const double y, ValueOf("--var-y", figure.var_y, figure.scale_y, run));
          if (std::isnan(x) || std::isnan(y)) {
            ++plotted.left_out;
            continue;
          }
          points.emplace_back(x, y);
          plotted.low_x = std::min(plotted.low_x, x);
          plotted.high_x = std::max(plotted.high_x, x);
          plotted.low_y = std::min(plotted.low_y, y);
          plotted.high_y = std::max(plotted.high_y, y);
        }
        cell.curves.emplace_back(IndexOf(plotted.curves, curve), std::move(points));
      }
      plotted.cells.push_back(std::move(cell));
    }
  }
  return plotted;
}

// The mean of each x, by x.
std::vector<Point> Means(const std::vector<Point>& points) {
  std::map<double, std::pair<double, int>> sums;
  for (const auto& [x, y] : points) {
    sums[x].first += y;
    ++sums[x].second;
  }
  std::vector<Point> means;
  for (const auto& [x, sum] : sums) means.emplace_back(x, sum.first / sum.second);
  return means;
}

std::string TitleOf(const Plotted& plotted, const Cell& cell) {
  const std::string row = GroupText(plotted.rows[cell.row], ", ");
  const std::string column = GroupText(plotted.columns[cell.column], ", ");
  return row.empty() || column.empty() ? row + column : row + "; " + column;
}

}  // namespace

Expected<FigureGrid> GridOf(const SweepFigure& figure, const Runs& runs) {
  ASSIGN_OR_RETURN(const auto rows, GroupsOf("--row-by", figure.row_by, runs));
  ASSIGN_OR_RETURN(const auto columns, GroupsOf("--col-by", figure.col_by, runs));
  return FigureGrid{rows.size(), columns.size()};
}

Expected<std::string> RenderSweepFigure(const SweepFigure& figure, const RunGroup& group, const Runs& all) {
  ASSIGN_OR_RETURN(Runs runs, Filtered(figure.filters, all));
  if (runs.empty()) {
    return Unexpected(InvalidArgument("argument --filter-by: found 0 of {} runs behind the filters, expected some", all.size()));
  }
  ASSIGN_OR_RETURN(runs, Binned(figure.bins, std::move(runs)));
  ASSIGN_OR_RETURN(const Plotted plotted, Plot(figure, runs));
  const auto axis = [](std::string_view label, Scale scale, double low, double high) {
    return SvgChart::Axis{.label = label, .max = high * 1.1, .scale = scale, .min = low / 1.1};
  };
  std::string elements;
  for (const Cell& cell : plotted.cells) {
    SvgChart chart({.x = kLeft + static_cast<double>(cell.column) * (kChartWidth + kGapX),
                    .y = kTop + static_cast<double>(cell.row) * (kChartHeight + kGapY),
                    .width = kChartWidth, .height = kChartHeight},
                   TitleOf(plotted, cell), axis(figure.var_x, figure.scale_x, plotted.low_x, plotted.high_x),
                   axis(figure.var_y, figure.scale_y, plotted.low_y, plotted.high_y));
    for (const auto& [curve, points] : cell.curves) {
      const std::string color = ColorOf(curve);
      chart.Line(Means(points), color);
      for (const Point& point : points) chart.Dot(point, color);
    }
    elements += chart.elements();
  }
  const double right = kLeft + static_cast<double>(plotted.columns.size()) * (kChartWidth + kGapX);
  std::vector<std::pair<std::string, std::string>> legend;
  for (size_t i = 0; i < plotted.curves.size() && !figure.curve_by.empty(); ++i) {
    legend.emplace_back(GroupText(plotted.curves[i], ", "), ColorOf(i));
  }
  elements += LegendColumn(right - kGapX / 2, kTop, legend);
  const std::string left_out =
      plotted.left_out == 0 ? "" : fmt::format("; {} runs without a value that the axes can show", plotted.left_out);
  const std::string heading = fmt::format("{} over {}", figure.var_y, figure.var_x);
  const double height = std::max(static_cast<double>(plotted.rows.size()) * (kChartHeight + kGapY),
                                 static_cast<double>(legend.size()) * 18);
  return SvgDocument(legend.empty() ? right : right + kLegendWidth, kTop + height, heading,
                     fmt::format("{}{}{} runs{}", GroupText(group, ", "), group.empty() ? "" : "; ", runs.size(), left_out),
                     elements);
}

}  // namespace tiercel::bench
