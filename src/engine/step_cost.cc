#include "engine/step_cost.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace tiercel::engine {
namespace {

// Of the sums that a and b come from, from step to step: they remember some hundred steps.
constexpr double kDecay = 0.99;
// Contexts that differ by less than this share of themselves say nothing beside the noise of the times.
constexpr double kLeastDifference = 0.05;
// A step's base is at least this share of it, whatever a and b say.
constexpr double kLeastBase = 0.05;

}  // namespace

void StepCost::Record(const StepWork& work, double seconds) {
  if (work.rows <= 0 || !(seconds > 0)) return;
  const Step step{static_cast<double>(work.rows), static_cast<double>(work.keys),
                  static_cast<double>(work.products), seconds};
  Size& size = sizes_[static_cast<size_t>(IndexOf(step.rows))];
  if (size.num_steps > 0) LearnContext(size, step);
  size.recent[static_cast<size_t>(size.num_steps++ % kRecent)] = step;
  size.last = ++num_steps_;
  PlacePoints();
}

int StepCost::IndexOf(double rows) {
  return std::min(kSizes - 1, static_cast<int>(kPerOctave * std::log2(rows)));
}

StepCost::Step StepCost::Mean(const Size& size) {
  const auto count = static_cast<int>(std::min<int64_t>(size.num_steps, kRecent));
  Step mean;
  for (int i = 0; i < count; ++i) {
    const Step& step = size.recent[static_cast<size_t>(i)];
    mean.rows += step.rows / count;
    mean.keys += step.keys / count;
    mean.products += step.products / count;
    mean.seconds += step.seconds / count;
  }
  return mean;
}

// How the step's time differs from that of steps of its size, beside how its context differs.
void StepCost::LearnContext(const Size& size, const Step& step) {
  const Step mean = Mean(size);
  const double share = 1 / mean.seconds;
  const double k = (step.keys - mean.keys) * share;
  const double p = (step.products - mean.products) * share;
  // A step that was held up says nothing about contexts: nothing beyond twice the usual time counts.
  const double held = std::min(step.seconds, 2 * mean.seconds);
  const double t = (held - mean.seconds - Slope(mean.rows) * (step.rows - mean.rows)) * share;
  const auto add = [](double* sum, double value) { *sum = kDecay * *sum + value; };
  add(&kk_, k * k);
  add(&kp_, k * p);
  add(&pp_, p * p);
  add(&kt_, k * t);
  add(&pt_, p * t);
  add(&keys_squared_, std::pow(step.keys * share, 2));
  add(&products_squared_, std::pow(step.products * share, 2));

  constexpr double kRidge = kLeastDifference * kLeastDifference;
  const double kk = kk_ + kRidge * keys_squared_, pp = pp_ + kRidge * products_squared_;
  const double determinant = kk * pp - kp_ * kp_;
  const auto ratio = [](double a, double b) { return b > 0 ? std::max(0.0, a / b) : 0.0; };
  // Neither can be negative: where one would be, the other explains all.
  seconds_per_key_ = ratio(kt_ * pp - pt_ * kp_, determinant);
  seconds_per_product_ = ratio(pt_ * kk - kt_ * kp_, determinant);
  if (seconds_per_key_ == 0) seconds_per_product_ = ratio(pt_, pp);
  if (seconds_per_product_ == 0) seconds_per_key_ = ratio(kt_, kk);
}

StepCost::Point StepCost::PointOf(const Size& size) const {
  const auto count = static_cast<size_t>(std::min<int64_t>(size.num_steps, kRecent));
  std::array<Point, kRecent> points;
  for (size_t i = 0; i < count; ++i) {
    const Step& step = size.recent[i];
    const double base = step.seconds - seconds_per_key_ * step.keys -
                        seconds_per_product_ * step.products;
    points[i] = {step.rows, std::max(kLeastBase * step.seconds, base),
                 size.num_steps >= kProven, size.last};
  }
  const auto median = points.begin() + static_cast<std::ptrdiff_t>((count - 1) / 2);
  std::nth_element(points.begin(), median, points.begin() + static_cast<std::ptrdiff_t>(count),
                   [](const Point& a, const Point& b) { return a.base * b.rows < b.base * a.rows; });
  return *median;
}

void StepCost::PlacePoints() {
  num_points_ = 0;
  for (const Size& size : sizes_) {
    if (size.num_steps > 0) points_[static_cast<size_t>(num_points_++)] = PointOf(size);
  }
  // One after the other, each into the range that those before it leave.
  std::array<int, kSizes> order;
  for (int i = 0; i < num_points_; ++i) order[static_cast<size_t>(i)] = i;
  std::sort(order.begin(), order.begin() + num_points_, [this](int a, int b) {
    const Point &x = points_[static_cast<size_t>(a)], &y = points_[static_cast<size_t>(b)];
    return std::pair(x.proven, x.last) > std::pair(y.proven, y.last);
  });
  for (int i = 1; i < num_points_; ++i) {
    Point& point = points_[static_cast<size_t>(order[static_cast<size_t>(i)])];
    for (int j = 0; j < i; ++j) {
      const Point& other = points_[static_cast<size_t>(order[static_cast<size_t>(j)])];
      const double in_proportion = other.base * point.rows / other.rows;
      point.base = std::clamp(point.base, std::min(other.base, in_proportion),
                              std::max(other.base, in_proportion));
    }
  }
}

double StepCost::Slope(double rows) const {
  constexpr double kStep = 1.1;
  return (Base(rows * kStep) - Base(rows / kStep)) / (rows * kStep - rows / kStep);
}

double StepCost::Base(double rows) const {
  const Point* const end = points_.data() + num_points_;
  const Point* const above = std::find_if(
      points_.data(), end, [rows](const Point& point) { return point.rows >= rows; });
  // Below all of them and, but for what follows, above: in proportion.
  if (above == points_.data()) return above->base * rows / above->rows;
  if (above != end) {
    const Point& below = above[-1];
    return below.base +
           (above->base - below.base) * (rows - below.rows) / (above->rows - below.rows);
  }
  // Onward from the last, as from one of at most half of its rows up to it.
  const Point& last = end[-1];
  for (const Point* first = end - 1; first-- != points_.data();) {
    if (2 * first->rows > last.rows) continue;
    return last.base + (last.base - first->base) * (rows - last.rows) / (last.rows - first->rows);
  }
  return last.base * rows / last.rows;
}

double StepCost::Seconds(const StepWork& work) const {
  CHECK_GT(num_points_, 0);
  return Base(static_cast<double>(work.rows)) +
         seconds_per_key_ * static_cast<double>(work.keys) +
         seconds_per_product_ * static_cast<double>(work.products);
}

}  // namespace tiercel::engine
