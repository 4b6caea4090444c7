// Pictures of a sweep: curves of one result over another in a grid of charts, and the frontier between what one user
// gets and what one device gives. Each is one SVG document.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "bench/run_table.h"
#include "bench/svg_chart.h"

namespace tiercel::bench {

struct SweepFigure {
  // A chart for each combination of the rows' and the columns' values, and in it a curve for each of the curves'.
  std::vector<std::string> row_by, col_by, curve_by;
  std::string var_x, var_y;
  std::vector<RunFilter> filters;
  std::vector<RunBin> bins;
  SvgChart::Scale scale_x = SvgChart::Scale::kLinear, scale_y = SvgChart::Scale::kLinear;
};

struct FigureGrid {
  size_t rows, columns;
};
Expected<FigureGrid> GridOf(const SweepFigure& figure, const Runs& runs);

// A dot for each run, and lines through the mean of those with the same x. What is not finite, and on a logarithmic axis
// what is not above 0, is left out. All charts have the same axes.
Expected<std::string> RenderSweepFigure(const SweepFigure& figure, const RunGroup& group, const Runs& runs);

}  // namespace tiercel::bench
