#include "quantize/group_quantizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/check.h"
#include "quantize/rounding.h"
#include "quantize/upper_factor.h"
#include "tensor/packed_matrix.h"

namespace tiercel::quantize {
namespace {

constexpr float kLeast = -8, kLargest = 7;
constexpr int kScales = 21;  // that are tried: −w / d of the largest w, for d = 7, 7.25 … 12

// In this order a NaN becomes 7: what is made of it is an integer all the same.
float CodeOf(float w, float inverse) { return Round(std::max(kLeast, std::min(kLargest, w * inverse))); }

// Sums in eight lanes, so that it vectorizes. `count` is a multiple of them.
double SquaredError(const float* w, int64_t count, float scale) {
  constexpr int kLanes = 8;
  const float inverse = 1 / scale;
  float sums[kLanes] = {};
  for (int64_t i = 0; i < count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float difference = w[i + lane] - scale * CodeOf(w[i + lane], inverse);
      sums[lane] += difference * difference;
    }
  }
  double sum = 0;
  for (const float lane : sums) sum += double{lane};
  return sum;
}

// Whether scales of such a group are what its numbers are (not finite), or 1 (too small for a scale, or zeros).
bool HasNoScale(float largest) { return !(std::fabs(largest) >= 12 * std::numeric_limits<float>::min()) || std::isinf(largest); }
BF16 OddScale(float largest) { return ToBF16(std::isfinite(largest) ? 1.0f : largest); }

// The largest becomes −8.
BF16 WholeScale(const float* w, int64_t count) {
  const float largest = Largest(w, count);
  return HasNoScale(largest) ? OddScale(largest) : ToBF16(largest / kLeast);
}

BF16 BestScale(const float* w, int64_t count) {
  const float largest = Largest(w, count);
  if (HasNoScale(largest)) return OddScale(largest);
  BF16 best = {};
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kScales; ++i) {
    const BF16 scale = ToBF16(-largest / (7.0f + 0.25f * static_cast<float>(i)));
    const double error = SquaredError(w, count, ToFloat(scale));
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

// to[j] += a[0]·from[0][j] + … for the rows `from` of a matrix, four at a time so that `to` is read and written less.
void AddRows(const float* a, const float* from, int64_t stride, int64_t rows, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const float *f0 = from + i * stride, *f1 = f0 + stride, *f2 = f1 + stride, *f3 = f2 + stride;
    for (int64_t j = 0; j < count; ++j) to[j] += a[i] * f0[j] + a[i + 1] * f1[j] + a[i + 2] * f2[j] + a[i + 3] * f3[j];
  }
  for (; i < rows; ++i) {
    for (int64_t j = 0; j < count; ++j) to[j] += a[i] * from[i * stride + j];
  }
}

}  // namespace

void RoundRow(const float* w, int64_t k, int64_t group, const GroupRow& out) {
  for (int64_t begin = 0; begin < k; begin += group) {
    const BF16 scale = WholeScale(w + begin, group);
    const float inverse = 1 / ToFloat(scale);
    out.scales[begin / group] = scale;
    for (int64_t i = begin; i < begin + group; ++i) out.codes[i] = static_cast<int8_t>(CodeOf(w[i], inverse));
  }
}

Expected<Gptq> Gptq::Create(std::vector<float> products, int64_t k, platform::WorkerTeam* team, double damping) {
  CHECK_EQ(std::ssize(products), k * k);
  double mean = 0;
  for (int64_t i = 0; i < k; ++i) mean += double{products[i * k + i]} / static_cast<double>(k);
  if (!std::isfinite(mean)) return Unexpected(InvalidArgument("the inputs in calibration are not finite"));
  if (mean == 0) mean = 1;  // the linear never got an input: plain rounding
  std::vector<float> diagonal(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i) diagonal[i] = products[i * k + i];
  constexpr int kTries = 4;
  for (int attempt = 0; attempt < kTries; ++attempt, damping *= 10) {
    // The lower triangle stays as it was.
    for (int64_t i = 0; i < k; ++i) {
      products[i * k + i] = diagonal[i] + static_cast<float>(damping * mean);
      for (int64_t j = 0; attempt > 0 && j < i; ++j) products[j * k + i] = products[i * k + j];
    }
    if (!FactorUpper(k, team, products.data())) continue;
    std::vector<float> inverse(static_cast<size_t>(k));
    for (int64_t j = 0; j < k; ++j) inverse[j] = 1 / products[j * k + j];
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = i + 1; j < k; ++j) products[i * k + j] *= inverse[j];
    }
    return Gptq(std::move(products), k);
  }
  return Unexpected(InvalidArgument("the inputs in calibration are too alike; give more text"));
}

void Gptq::Quantize(const float* w, int64_t rows, int64_t group, const GroupRow* out) const {
  CHECK_LE(rows, kTileRows);
  constexpr int64_t kChunk = 512;  // of the inputs after a group's: 128 rows of the factor take 256 KiB of L2
  std::vector<float> moved(w, w + rows * k_), error(static_cast<size_t>(rows * group)), ahead(static_cast<size_t>(group));
  for (int64_t begin = 0; begin < k_; begin += group) {
    for (int64_t r = 0; r < rows; ++r) {
      const float* const exact = w + r * k_ + begin;
      float* const at = moved.data() + r * k_ + begin;
      const auto add_error = [&](int64_t i, float lost, float* to) {
        AddRows(&lost, factor_.data() + (begin + i) * k_ + begin + i + 1, k_, 1, group - i - 1, to + i + 1);
      };
      // Where the group's weights would stand if none of them were rounded.
      std::copy_n(at, group, ahead.begin());
      for (int64_t i = 0; i < group; ++i) add_error(i, exact[i] - ahead[i], ahead.data());
      const BF16 scale = BestScale(ahead.data(), group);
      const float inverse = 1 / ToFloat(scale);
      out[r].scales[begin / group] = scale;
      for (int64_t i = 0; i < group; ++i) {
        const float code = CodeOf(at[i], inverse);
        out[r].codes[begin + i] = static_cast<int8_t>(code);
        error[r * group + i] = exact[i] - ToFloat(scale) * code;
        add_error(i, error[r * group + i], at);
      }
    }
    for (int64_t chunk = begin + group; chunk < k_; chunk += kChunk) {
      const int64_t count = std::min(kChunk, k_ - chunk);
      for (int64_t r = 0; r < rows; ++r) {
        AddRows(error.data() + r * group, factor_.data() + begin * k_ + chunk, k_, group, count,
                moved.data() + r * k_ + chunk);
      }
    }
  }
}

}  // namespace tiercel::quantize
