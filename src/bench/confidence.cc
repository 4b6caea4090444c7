#include "bench/confidence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace tiercel::bench {
namespace {

// Student's t at 0.975 and 0.995 by degrees of freedom, 1 and up; above the tables' end it hardly falls.
constexpr double kStudent95[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                 2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
constexpr double kStudent99[] = {63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169,
                                 3.106,  3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845};

}  // namespace

double Mean(std::span<const double> values) {
  return values.empty() ? 0
                        : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

Interval ConfidenceInterval(std::span<const double> values, Confidence confidence) {
  Interval interval;
  if (values.empty()) return {0, std::numeric_limits<double>::infinity()};
  const auto count = static_cast<double>(values.size());
  for (const double value : values) interval.mean += value / count;
  if (values.size() == 1) return {interval.mean, std::numeric_limits<double>::infinity()};
  double squares = 0;
  for (const double value : values) squares += (value - interval.mean) * (value - interval.mean);
  const size_t freedom = std::min(values.size() - 1, std::size(kStudent95));
  const double t = confidence == Confidence::k95 ? kStudent95[freedom - 1] : kStudent99[freedom - 1];
  interval.half_width = t * std::sqrt(squares / (count - 1) / count);
  return interval;
}

double LogRatio(double a, double b) {
  const double most = std::log(10.0);
  if (a == b) return 0;
  if (a <= 0) return -most;
  if (b <= 0) return most;
  return std::clamp(std::log(a / b), -most, most);
}

}  // namespace tiercel::bench
