// SvgChart: axes with round ticks, and lines, dots and bars by the data's values, within a rectangle.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel::bench {

using Point = std::pair<double, double>;

// Text as an SVG document shows it.
std::string XmlText(std::string_view text);

// One document of charts' elements, with a heading and a line below it; without scripts, fonts or links to anything.
std::string SvgDocument(double width, double height, std::string_view heading, std::string_view line,
                        std::string_view elements);

class SvgChart {
 public:
  struct Place {
    double x, y, width, height;  // pixels, of the area within the axes
  };
  enum class Scale { kLinear, kLog, kSqrt };
  struct Axis {
    std::string_view label;
    double max = 1;
    bool ticks = true;
    Scale scale = Scale::kLinear;
    double min = 0;  // of a logarithmic axis, above 0; others begin at 0
  };

  // A maximum that is not finite or above 0 counts as 1; a logarithmic axis without a minimum below it has two decades.
  SvgChart(const Place& place, std::string_view title, Axis x, Axis y);

  void Line(std::span<const Point> points, std::string_view color);
  void Dot(const Point& point, std::string_view color);
  // From one x to another, so thick.
  void Bar(double from, double to, double y, double pixels, std::string_view color);
  // From there to the right, on the height of `at`.
  void Text(const Point& at, std::string_view text);
  // The next entry of the legend, below the chart.
  void Legend(std::string_view name, std::string_view color);

  const std::string& elements() const { return elements_; }

 private:
  double X(double value) const;
  double Y(double value) const;
  void DrawAxes(std::string_view title);

  const Place place_;
  Axis x_, y_;
  double legend_x_;
  std::string elements_;
};

// Names with their colors, one below the other from there.
std::string LegendColumn(double x, double y, std::span<const std::pair<std::string, std::string>> entries);

// 1, 2 or 5 times a power of ten, so that some five fit into `max`.
double TickStep(double max);

}  // namespace tiercel::bench
