// When the requests of a load arrive.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace tiercel::bench {

struct RampUp {
  bool exponential = false;  // else linear
  int64_t start_rps = 0, end_rps = 0;
};

struct Traffic {
  double request_rate = std::numeric_limits<double>::infinity();  // a second; infinite: all at once
  // Shape of the gamma distribution of the intervals: 1 is a Poisson process, below is in bursts,
  // infinite is even.
  double burstiness = 1;
  std::optional<RampUp> ramp_up;  // instead of the rate
};

// The rate at which request `index` of `count` is sent.
double RateAt(const Traffic& traffic, int64_t index, int64_t count);

// Seconds after the start, ascending. Without a ramp-up they are scaled so that the last one comes
// after count / rate seconds, as in vLLM: the rate is then the one that was asked for, whatever the
// seed.
std::vector<double> ArrivalTimes(const Traffic& traffic, int64_t count, uint64_t seed);

}  // namespace tiercel::bench
