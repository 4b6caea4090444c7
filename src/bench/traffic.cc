#include "bench/traffic.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace tiercel::bench {

double RateAt(const Traffic& traffic, int64_t index, int64_t count) {
  if (!traffic.ramp_up) return traffic.request_rate;
  const auto start = static_cast<double>(traffic.ramp_up->start_rps);
  const auto end = static_cast<double>(traffic.ramp_up->end_rps);
  const double progress =
      static_cast<double>(index) / static_cast<double>(std::max<int64_t>(count - 1, 1));
  return traffic.ramp_up->exponential ? start * std::pow(end / start, progress)
                                      : start + (end - start) * progress;
}

std::vector<double> ArrivalTimes(const Traffic& traffic, int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> times;
  times.reserve(static_cast<size_t>(count));
  double time = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double rate = RateAt(traffic, i, count);
    if (!std::isinf(rate)) {
      time += std::isinf(traffic.burstiness)
                  ? 1 / rate
                  : std::gamma_distribution<double>(traffic.burstiness,
                                                    1 / (rate * traffic.burstiness))(random);
    }
    times.push_back(time);
  }
  if (!traffic.ramp_up && time > 0) {
    const double scale = static_cast<double>(count) / traffic.request_rate / time;
    for (double& value : times) value *= scale;
  }
  return times;
}

}  // namespace tiercel::bench
