#include "bench/svg_chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace tiercel::bench {
namespace {

constexpr double kLetter = 7;  // pixels of a letter of the legend, on average

double Bounded(double max) { return std::isfinite(max) && max > 0 ? max : 1; }

using Scale = SvgChart::Scale;

SvgChart::Axis Bounded(SvgChart::Axis axis) {
  axis.max = Bounded(axis.max);
  if (axis.scale != Scale::kLog) {
    axis.min = 0;
  } else if (!(axis.min > 0 && axis.min < axis.max)) {
    axis.min = axis.max / 100;
  }
  return axis;
}

double Scaled(Scale scale, double value) {
  switch (scale) {
    case Scale::kLinear: return value;
    case Scale::kLog: return std::log10(value);
    case Scale::kSqrt: return std::sqrt(value);
  }
  return value;
}

// Where a value lies between the axis's ends, from 0 to 1.
double Fraction(const SvgChart::Axis& axis, double value) {
  const double low = Scaled(axis.scale, axis.min), high = Scaled(axis.scale, axis.max);
  return (Scaled(axis.scale, std::clamp(value, axis.min, axis.max)) - low) / (high - low);
}

template <typename F>
void ForEachTick(const SvgChart::Axis& axis, F&& draw) {
  if (!axis.ticks) return;
  if (axis.scale == Scale::kLog) {
    const bool narrow = axis.max / axis.min < 200;  // then powers of ten alone are too few
    for (double power = std::pow(10, std::floor(std::log10(axis.min))); power <= axis.max; power *= 10) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double value = factor * power;
        if ((factor == 1 || narrow) && value >= axis.min && value <= axis.max) draw(value);
      }
    }
    return;
  }
  const double step = TickStep(axis.max);
  for (int i = 0; i * step <= axis.max * (1 + 1e-9); ++i) draw(i * step);
}

std::string LegendEntry(double x, double y, std::string_view name, std::string_view color) {
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"10\" height=\"10\" fill=\"{}\"/>"
      "<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
      x, y - 9, color, x + 14, y, XmlText(name));
}

}  // namespace

std::string XmlText(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default:
        // XML has no such characters, not even as references.
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string SvgDocument(double width, double height, std::string_view heading, std::string_view line,
                        std::string_view elements) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n<style>.title{{font-size:15px;"
      "font-weight:bold}}.grid{{stroke:#e3e3e3}}.axis{{stroke:#222;fill:none}}.line{{fill:none;"
      "stroke-width:2}}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
      "<text x=\"70\" y=\"30\" class=\"title\">{2}</text>\n<text x=\"70\" y=\"50\">{3}</text>\n{4}</svg>\n",
      width, height, XmlText(heading), XmlText(line), elements);
}

double TickStep(double max) {
  const double rough = max / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power * (1 + 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::string LegendColumn(double x, double y, std::span<const std::pair<std::string, std::string>> entries) {
  std::string elements;
  for (const auto& [name, color] : entries) {
    elements += LegendEntry(x, y, name, color);
    y += 18;
  }
  return elements;
}

SvgChart::SvgChart(const Place& place, std::string_view title, Axis x, Axis y)
    : place_(place), x_(Bounded(x)), y_(Bounded(y)), legend_x_(place.x) {
  DrawAxes(title);
}

double SvgChart::X(double value) const {
  return place_.x + place_.width * Fraction(x_, value);
}

double SvgChart::Y(double value) const {
  return place_.y + place_.height * (1 - Fraction(y_, value));
}

void SvgChart::DrawAxes(std::string_view title) {
  const double right = place_.x + place_.width, bottom = place_.y + place_.height;
  elements_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"title\">{}</text>\n", place_.x,
                           place_.y - 10, XmlText(title));
  ForEachTick(x_, [&](double value) {
    elements_ += fmt::format(
        "<path d=\"M{0:.1f} {1:.1f}V{2:.1f}\" class=\"grid\"/><text x=\"{0:.1f}\" y=\"{3:.1f}\" "
        "text-anchor=\"middle\">{4:.6g}</text>\n",
        X(value), place_.y, bottom, bottom + 16, value);
  });
  ForEachTick(y_, [&](double value) {
    elements_ += fmt::format(
        "<path d=\"M{0:.1f} {1:.1f}H{2:.1f}\" class=\"grid\"/><text x=\"{3:.1f}\" y=\"{4:.1f}\" "
        "text-anchor=\"end\">{5:.6g}</text>\n",
        place_.x, Y(value), right, place_.x - 6, Y(value) + 4, value);
  });
  elements_ += fmt::format("<path d=\"M{:.1f} {:.1f}V{:.1f}H{:.1f}\" class=\"axis\"/>\n", place_.x,
                           place_.y, bottom, right);
  elements_ += fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
      place_.x + place_.width / 2, bottom + 32, XmlText(x_.label));
  const double middle = place_.y + place_.height / 2;
  elements_ += fmt::format(
      "<text transform=\"rotate(-90 {0:.1f} {1:.1f})\" x=\"{0:.1f}\" y=\"{1:.1f}\" "
      "text-anchor=\"middle\">{2}</text>\n",
      place_.x - 48, middle, XmlText(y_.label));
}

void SvgChart::Line(std::span<const Point> points, std::string_view color) {
  std::string path;
  for (const auto& [x, y] : points) {
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", X(x), Y(y));
  }
  if (path.empty()) return;
  elements_ += fmt::format("<path d=\"{}\" class=\"line\" stroke=\"{}\"/>\n", path, color);
}

void SvgChart::Dot(const Point& point, std::string_view color) {
  elements_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\" fill=\"{}\"/>\n",
                           X(point.first), Y(point.second), color);
}

void SvgChart::Bar(double from, double to, double y, double pixels, std::string_view color) {
  elements_ += fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.2f}\" width=\"{:.1f}\" height=\"{:.2f}\" fill=\"{}\"/>\n", X(from),
      Y(y) - pixels / 2, std::max(X(to) - X(from), 0.0), pixels, color);
}

void SvgChart::Text(const Point& at, std::string_view text) {
  elements_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", X(at.first) + 4,
                           Y(at.second) + 4, XmlText(text));
}

void SvgChart::Legend(std::string_view name, std::string_view color) {
  elements_ += LegendEntry(legend_x_, place_.y + place_.height + 50, name, color);
  legend_x_ += 30 + kLetter * static_cast<double>(name.size());
}

}  // namespace tiercel::bench
