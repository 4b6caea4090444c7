// StepCost: how long a step takes on this machine, learnt from the steps that have run. Pure logic.
//
// A step's time is taken as base(rows) + a · keys + b · products, see StepWork. Nothing is assumed of
// base but that more rows take no less time and no more time a row. It is known where steps have run:
// of the last five of similar size the one with the median base a row counts. Between these points it is
// linear. Where points contradict each other, one of at least three steps is believed, else the newer: the
// machine has changed, or a step was held up.
// a and b come from how times differ within steps of similar size (decayed least squares), so they are 0
// until contexts have differed.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace tiercel::engine {

// What a step computes, as far as its time depends on it.
struct StepWork {
  int64_t rows = 0;      // tokens
  int64_t keys = 0;      // of the contexts, each read once for its sequence
  int64_t products = 0;  // row by key, of sequences with more than one row

  // Rows [start, start + count) of a sequence.
  void Add(int64_t start, int64_t count) {
    rows += count;
    keys += start + count;
    products += Products(start, count);
  }
  // The sequence's rows, from `start` on, are `more` than `count`.
  void Extend(int64_t start, int64_t count, int64_t more) {
    rows += more;
    keys += more;
    products += Products(start, count + more) - Products(start, count);
  }

 private:
  static int64_t Products(int64_t start, int64_t count) {
    return count > 1 ? count * start + count * (count + 1) / 2 : 0;
  }
};

class StepCost {
 public:
  // A step has taken so long. Without rows or time it says nothing.
  void Record(const StepWork& work, double seconds);

  bool known() const { return num_points_ > 0; }
  // Whether steps of about so many rows have run.
  bool Measured(int64_t rows) const { return SizeOf(static_cast<double>(rows)).num_steps > 0; }
  // What `work` should take; known() must be true. Never less for more work of a sequence.
  double Seconds(const StepWork& work) const;

 private:
  static constexpr int kRecent = 5;
  static constexpr int kProven = 3;     // steps of a size: the median is no longer one that was held up
  static constexpr int kPerOctave = 4;  // sizes whose times are alike: within a fifth
  static constexpr int kSizes = 20 * kPerOctave;

  struct Step {
    double rows = 0, keys = 0, products = 0, seconds = 0;
  };
  struct Size {
    std::array<Step, kRecent> recent;
    int64_t num_steps = 0;
    int64_t last = 0;  // number of its last step
  };
  struct Point {
    double rows = 0, base = 0;
    bool proven = false;
    int64_t last = 0;
  };

  static int IndexOf(double rows);
  const Size& SizeOf(double rows) const { return sizes_[static_cast<size_t>(IndexOf(rows))]; }
  static Step Mean(const Size& size);
  double Slope(double rows) const;
  void LearnContext(const Size& size, const Step& step);
  Point PointOf(const Size& size) const;
  void PlacePoints();
  double Base(double rows) const;

  std::array<Size, kSizes> sizes_;
  int64_t num_steps_ = 0;
  // The normal equations of a and b in shares of a step's time, and the squares of what they multiply.
  double kk_ = 0, kp_ = 0, pp_ = 0, kt_ = 0, pt_ = 0, keys_squared_ = 0, products_squared_ = 0;
  double seconds_per_key_ = 0, seconds_per_product_ = 0;
  std::array<Point, kSizes> points_;  // by rows; no two contradict each other
  int num_points_ = 0;
};

}  // namespace tiercel::engine
