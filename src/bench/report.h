// What `bench serve` prints and writes: vLLM's table, JSON keys and file names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/json.h"
#include "bench/load.h"
#include "bench/metrics.h"
#include "bench/traffic.h"

namespace tiercel::bench {

// What was asked for, as far as the results name it.
struct ServeRun {
  std::string date;         // "20251125-023400", local time
  double start_unix_s = 0;  // wall clock at the load's start
  std::string backend = "openai";
  std::optional<std::string> label;
  std::string model_id;
  std::optional<std::string> tokenizer_id;  // nullopt: without one
  int64_t num_prompts = 0;
  std::vector<std::pair<std::string, std::string>> metadata;
  Traffic traffic;
  int64_t max_concurrency = 0;  // 0: none
  std::vector<std::string> percentile_metrics = {"ttft", "tpot", "itl"};
};

// Which names --percentile-metrics takes.
const std::vector<std::string>& PercentileMetricNames();

// A float as Python prints it: "1.0", "0.5", "inf".
std::string PythonFloat(double value);

std::string RenderTable(const ServeRun& run, const Metrics& metrics, double duration_s);
// `detailed`: with what is known of every request.
api::Json ResultJson(const ServeRun& run, const Metrics& metrics, const LoadResult& load,
                     bool detailed);
std::string ResultFileName(const ServeRun& run);

}  // namespace tiercel::bench
