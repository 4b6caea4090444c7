// What noisy measurements say about the value behind them.
#pragma once

#include <span>

namespace tiercel::bench {

struct Interval {
  double mean = 0;
  double half_width = 0;  // infinite below two values

  double low() const { return mean - half_width; }
  double high() const { return mean + half_width; }
};

// In how many of 100 cases an interval holds the truth.
enum class Confidence { k95, k99 };

double Mean(std::span<const double> values);  // 0 of none

// Student's interval for the mean of independent normal values.
Interval ConfidenceInterval(std::span<const double> values, Confidence confidence);

// log(a / b): how much larger a is, the same in both directions. Of values that are not negative: 0 if both
// are 0, and never beyond a factor of ten, so that one run that was disturbed does not outweigh all others.
double LogRatio(double a, double b);

}  // namespace tiercel::bench
