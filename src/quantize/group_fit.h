// The scale of one group of weights, or its scale and minimum, by least squares: what a code stands for against the
// weight, each input i counted h[i] times.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/bf16.h"
#include "quantize/rounding.h"

namespace tiercel::quantize {

// Sums of a group in eight lanes, so that they vectorize. A group has a multiple of them.
inline constexpr int kLanes = 8;

inline double Total(const float (&lanes)[kLanes]) {
  double sum = 0;
  for (const float lane : lanes) sum += double{lane};
  return sum;
}

inline float Inverse(float scale) { return scale != 0 ? 1 / scale : 0; }

// The half that is stored, and what it stands for.
inline float Stored(float scale) { return HalfToFloat(ToHalf(scale)); }

inline void PutHalf(float value, uint8_t* out) {
  const uint16_t bits = ToHalf(value);
  std::memcpy(out, &bits, sizeof(bits));
}

// w ≈ scale · code, the codes −kHalf … kHalf − 1.

template <int kHalf>
float CodeOf(float w, float inverse) {
  return Round(std::max<float>(-kHalf, std::min<float>(kHalf - 1, w * inverse)));
}

template <int kHalf, int kCount>
double Loss(const float* w, const float* h, float scale) {
  const float inverse = Inverse(scale);
  float sums[kLanes] = {};
  for (int i = 0; i < kCount; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const int at = i + lane;
      const float lost = w[at] - scale * CodeOf<kHalf>(w[at], inverse);
      sums[lane] += h[at] * lost * lost;
    }
  }
  return Total(sums);
}

// Σ h·w·c and Σ h·c², of which the quotient is the scale of the least loss for the codes that `scale` gives.
struct ScaleSums {
  double wc = 0, cc = 0;
};

template <int kHalf, int kCount>
ScaleSums FitScale(const float* w, const float* h, float scale) {
  const float inverse = Inverse(scale);
  float wc[kLanes] = {}, cc[kLanes] = {};
  for (int i = 0; i < kCount; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const int at = i + lane;
      const float code = CodeOf<kHalf>(w[at], inverse);
      wc[lane] += h[at] * w[at] * code;
      cc[lane] += h[at] * code * code;
    }
  }
  return {Total(wc), Total(cc)};
}

// Tries scales of both signs by which the largest value becomes kHalf − 1 … kHalf + 2 in steps of a half; `stored`
// rounds a scale to what can be kept.
template <int kHalf, int kCount, typename Rounding>
float BestScale(const float* w, const float* h, const Rounding& stored) {
  const float largest = Largest(w, kCount);
  float best = stored(largest / -kHalf);
  if (!std::isnormal(best)) return std::isinf(best) ? best : 0;  // 0: so small are all values
  double least = Loss<kHalf, kCount>(w, h, best);
  constexpr int kSteps = 7;
  for (int i = 0; i < 2 * kSteps; ++i) {
    const float code = kHalf - 1 + 0.5f * static_cast<float>(i / 2);
    const ScaleSums sums = FitScale<kHalf, kCount>(w, h, largest / (i % 2 == 0 ? -code : code));
    const float scale = stored(static_cast<float>(sums.wc / sums.cc));
    if (!std::isnormal(scale)) continue;
    const double loss = Loss<kHalf, kCount>(w, h, scale);
    if (loss < least) {
      least = loss;
      best = scale;
    }
  }
  return best;
}

// w ≈ scale · code − min, the codes 0 … kMost, scale ≥ 0.

inline constexpr int kGroup = 32;

struct Line {
  float scale = 0, min = 0;
};

template <int kMost>
float CodeOf(float w, Line line, float inverse) {
  return Round(std::max<float>(0, std::min<float>(kMost, (w + line.min) * inverse)));
}

template <int kMost>
double Loss(const float* w, const float* h, Line line) {
  const float inverse = Inverse(line.scale);
  float sums[kLanes] = {};
  for (int i = 0; i < kGroup; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const int at = i + lane;
      const float lost = w[at] - (line.scale * CodeOf<kMost>(w[at], line, inverse) - line.min);
      sums[lane] += h[at] * lost * lost;
    }
  }
  return Total(sums);
}

struct LineSums {
  double one = 0, c = 0, cc = 0, w = 0, wc = 0;  // each weighted
};

template <int kMost>
LineSums FitLine(const float* w, const float* h, Line line) {
  const float inverse = Inverse(line.scale);
  float one[kLanes] = {}, c[kLanes] = {}, cc[kLanes] = {}, ws[kLanes] = {}, wc[kLanes] = {};
  for (int i = 0; i < kGroup; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const int at = i + lane;
      const float code = CodeOf<kMost>(w[at], line, inverse);
      one[lane] += h[at];
      c[lane] += h[at] * code;
      cc[lane] += h[at] * code * code;
      ws[lane] += h[at] * w[at];
      wc[lane] += h[at] * w[at] * code;
    }
  }
  return {Total(one), Total(c), Total(cc), Total(ws), Total(wc)};
}

// The line of the least loss for codes with these sums; `before` where they are all the same.
inline Line LeastSquares(const LineSums& s, bool negative_min, Line before) {
  const double determinant = s.one * s.cc - s.c * s.c;
  if (!(determinant > 1e-9 * s.one * s.cc)) return before;
  const double scale = (s.one * s.wc - s.c * s.w) / determinant;
  const double min = (scale * s.c - s.w) / s.one;
  if (min < 0 && !negative_min) return {static_cast<float>(s.wc / s.cc), 0};
  return {static_cast<float>(scale), static_cast<float>(min)};
}

// Tries ranges from somewhat more than that of the values to two thirds of it.
template <int kMost>
Line BestLine(const float* w, const float* h, bool negative_min) {
  const auto [low, high] = std::minmax_element(w, w + kGroup);
  const float from = negative_min ? *low : std::min(*low, 0.0f), to = std::max(*high, from);
  Line best{(to - from) / kMost, -from};
  if (best.scale < std::numeric_limits<float>::min()) return {0, -from};
  double least = Loss<kMost>(w, h, best);
  constexpr int kRanges = 9, kFits = 2;
  for (int i = 0; i < kRanges; ++i) {
    const float scale = (to - from) / (kMost - 1 + static_cast<float>(kMost + 1) / 32 * static_cast<float>(i));
    Line line{scale, scale * kMost / 2 - (from + to) / 2};
    if (!negative_min) line.min = std::max(line.min, 0.0f);
    for (int fit = 0; fit < kFits; ++fit) line = LeastSquares(FitLine<kMost>(w, h, line), negative_min, line);
    const double loss = Loss<kMost>(w, h, line);
    if (loss < least && line.scale > 0) {
      least = loss;
      best = line;
    }
  }
  return best;
}

}  // namespace tiercel::quantize
