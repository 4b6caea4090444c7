// What a load's outcomes come to. Definitions are vLLM's; docs/benchmarks.md says them in words.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/draft_counts.h"
#include "bench/outcome.h"

namespace tiercel::bench {

// numpy's default: linear between the two nearest ranks. `sorted` is ascending; of nothing it is 0.
double Percentile(std::span<const double> sorted, double percent);

struct Distribution {
  double mean = 0, median = 0;
  double std = 0;                                      // of the values themselves, not a sample
  std::vector<std::pair<double, double>> percentiles;  // (percent, value)
};
Distribution Describe(std::vector<double> values, std::span<const double> percents);

struct MetricsOptions {
  std::vector<double> percents = {99};
  // "ttft", "tpot" or "e2el" and the most milliseconds that a good request takes.
  std::map<std::string, double> goodput_ms;
  // Tokens of a text, for servers that do not say. Null: they count as 1.
  std::function<int64_t(std::string_view text)> count_tokens;
};

struct Metrics {
  int64_t completed = 0, failed = 0;
  int64_t total_input = 0, total_output = 0;  // tokens
  double request_throughput = 0;              // a second, as are the others
  std::optional<double> request_goodput;      // if asked for
  double output_throughput = 0, total_token_throughput = 0;
  double max_output_tokens_per_s = 0;  // chunks in the fullest second
  int64_t max_concurrent_requests = 0;
  // Milliseconds, of the completed requests.
  Distribution ttft, tpot, itl, e2el, queue, e2el_with_queue;
  std::vector<int64_t> output_lens;  // of each outcome; 0 for a failed one
  std::optional<DraftCounts> drafts;  // what the server counted meanwhile, if it guesses at tokens
};

Metrics CalculateMetrics(std::span<const Outcome> outcomes, double duration_s,
                         const MetricsOptions& options);

}  // namespace tiercel::bench
