// The trade between tokens for one user and tokens of one device, as `vllm bench sweep plot_pareto` draws it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "bench/run_table.h"

namespace tiercel::bench {

struct ParetoPoint {
  double tokens_per_user;    // output tokens a second
  double tokens_per_device;
  std::string label;
  bool on_frontier = false;  // no run gives more of both
};

struct ParetoKeys {
  std::string users;                // of a run's key, else request_rate, else max_concurrent_requests
  std::string devices;              // "": the product of the parallel sizes, 1 each where a run does not say
  std::vector<std::string> labels;  // "gpu_count" is the number of devices that was found
};

// Runs of which nothing says the number of users are left out and counted.
struct Pareto {
  std::vector<ParetoPoint> points;  // by tokens_per_user, most first
  size_t without_users = 0;
  size_t frontier_size = 0;
};
Expected<Pareto> FindPareto(const ParetoKeys& keys, const Runs& runs);

std::string RenderPareto(const Pareto& pareto);

}  // namespace tiercel::bench
