// A sweep as it runs: servers, the benchmarks on each of them, and the files of results.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/parameter_sweep.h"
#include "bench/workload.h"

namespace tiercel::tools {

struct WorkloadSearch {
  bench::WorkloadVariable variable = bench::WorkloadVariable::kRequestRate;
  int64_t levels = 10;  // with both ends
};

struct SweepConfig {
  std::vector<std::string> serve_command, bench_command, after_command;
  std::vector<bench::SweepItem> serve_items, bench_items;
  bench::SweepLinks links;
  std::optional<WorkloadSearch> workload;  // then each combination runs at several levels
  std::filesystem::path folder;  // of the experiment
  int64_t num_runs = 3, warmup_prompts = 0;
  double ready_timeout_s = 300;
  bool show = false, dry_run = false, continue_on_error = false;
};

// Says on standard output what it does. kCancelled once *stop is set.
Status RunSweep(const SweepConfig& config, const std::atomic<bool>* stop);

}  // namespace tiercel::tools
