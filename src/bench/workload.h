// How much load `bench sweep serve_workload` puts on a server: from one request at a time to all at once. Rules are those
// of `vllm bench sweep serve_workload`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/parameter_sweep.h"

namespace tiercel::bench {

enum class WorkloadVariable { kRequestRate, kMaxConcurrency };
// The flag, "request_rate".
std::string_view NameOf(WorkloadVariable variable);

// How many prompts a benchmark has by its parameters or command line, or by default.
Expected<int64_t> PromptCount(const SweepItem& bench, const std::vector<std::string>& command);

// The level that runs came to, on average: requests a second, or how many there were at a time (Little's law). A run
// without the figures is an error.
Expected<double> ReachedLevel(WorkloadVariable variable, const api::Json::Array& runs);

// The levels between one request at a time and all at once, evenly, whole numbers above 0, each once: `count` with both
// ends, which are not among them.
std::vector<int64_t> LevelsBetween(int64_t serial, int64_t batch, int64_t count);

}  // namespace tiercel::bench
