#include "bench/metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tiercel::bench {
namespace {

constexpr double kMsPerSecond = 1e3;

int64_t OutputTokens(const Outcome& outcome, const MetricsOptions& options) {
  if (outcome.output_tokens.value_or(0) > 0) return *outcome.output_tokens;
  return options.count_tokens ? options.count_tokens(outcome.text) : 1;
}

bool IsGood(const std::map<std::string, double>& goodput_ms, double ttft_s, double tpot_s,
            double e2el_s) {
  const auto within = [&](const char* name, double seconds) {
    const auto at = goodput_ms.find(name);
    return at == goodput_ms.end() || seconds <= at->second / kMsPerSecond;
  };
  return within("ttft", ttft_s) && within("tpot", tpot_s) && within("e2el", e2el_s);
}

// The most chunks that came in one second, counted from the first request's start.
double PeakChunksPerSecond(std::span<const Outcome* const> completed) {
  double begin = completed[0]->start_s, end = begin;
  for (const Outcome* outcome : completed) {
    begin = std::min(begin, outcome->start_s);
    end = std::max(end, outcome->start_s + outcome->latency_s);
  }
  std::vector<int64_t> seconds(static_cast<size_t>(std::ceil(end - begin)) + 1);
  for (const Outcome* outcome : completed) {
    double time = outcome->start_s + outcome->ttft_s - begin;
    ++seconds[static_cast<size_t>(time)];
    for (const double itl : outcome->itls_s) {
      time += itl;
      // Sums of differences may end a rounding error beyond the end.
      ++seconds[std::min(static_cast<size_t>(time), seconds.size() - 1)];
    }
  }
  return static_cast<double>(*std::max_element(seconds.begin(), seconds.end()));
}

// The most requests that ran at one moment; one that ends as another begins does not run with it.
int64_t PeakConcurrency(std::span<const Outcome* const> completed) {
  std::vector<std::pair<double, int>> changes;
  for (const Outcome* outcome : completed) {
    changes.emplace_back(outcome->start_s, 1);
    changes.emplace_back(outcome->start_s + outcome->latency_s, -1);
  }
  std::sort(changes.begin(), changes.end());
  int64_t now = 0, peak = 0;
  for (const auto& [time, change] : changes) peak = std::max(peak, now += change);
  return peak;
}

}  // namespace

double Percentile(std::span<const double> sorted, double percent) {
  if (sorted.empty()) return 0;
  const double rank = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], rank - static_cast<double>(below));
}

Distribution Describe(std::vector<double> values, std::span<const double> percents) {
  std::sort(values.begin(), values.end());
  Distribution result;
  if (!values.empty()) {
    const auto count = static_cast<double>(values.size());
    result.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
    double squares = 0;
    for (const double value : values) squares += (value - result.mean) * (value - result.mean);
    result.std = std::sqrt(squares / count);
  }
  result.median = Percentile(values, 50);
  for (const double percent : percents) {
    result.percentiles.emplace_back(percent, Percentile(values, percent));
  }
  return result;
}

Metrics CalculateMetrics(std::span<const Outcome> outcomes, double duration_s,
                         const MetricsOptions& options) {
  Metrics metrics;
  std::vector<double> ttfts, tpots, itls, e2els, queues, e2els_with_queue;
  std::vector<const Outcome*> completed;
  int64_t good = 0;
  for (const Outcome& outcome : outcomes) {
    if (!outcome.success) {
      ++metrics.failed;
      metrics.output_lens.push_back(0);
      continue;
    }
    completed.push_back(&outcome);
    const int64_t tokens = OutputTokens(outcome, options);
    metrics.output_lens.push_back(tokens);
    metrics.total_output += tokens;
    metrics.total_input += outcome.prompt_tokens;
    double tpot_s = 0;  // of one token there is none, and goodput takes it for 0
    if (tokens > 1) {
      tpot_s = (outcome.latency_s - outcome.ttft_s) / static_cast<double>(tokens - 1);
      tpots.push_back(tpot_s * kMsPerSecond);
    }
    ttfts.push_back(outcome.ttft_s * kMsPerSecond);
    for (const double itl_s : outcome.itls_s) itls.push_back(itl_s * kMsPerSecond);
    e2els.push_back(outcome.latency_s * kMsPerSecond);
    queues.push_back(outcome.queue_s * kMsPerSecond);
    e2els_with_queue.push_back((outcome.latency_s + outcome.queue_s) * kMsPerSecond);
    good += IsGood(options.goodput_ms, outcome.ttft_s, tpot_s, outcome.latency_s);
  }
  metrics.completed = static_cast<int64_t>(completed.size());
  const auto rate = [&](int64_t amount) {
    return duration_s > 0 ? static_cast<double>(amount) / duration_s : 0;
  };
  metrics.request_throughput = rate(metrics.completed);
  if (!options.goodput_ms.empty()) metrics.request_goodput = rate(good);
  metrics.output_throughput = rate(metrics.total_output);
  metrics.total_token_throughput = rate(metrics.total_input + metrics.total_output);
  if (!completed.empty()) {
    metrics.max_output_tokens_per_s = PeakChunksPerSecond(completed);
    metrics.max_concurrent_requests = PeakConcurrency(completed);
  }
  metrics.ttft = Describe(std::move(ttfts), options.percents);
  metrics.tpot = Describe(std::move(tpots), options.percents);
  metrics.itl = Describe(std::move(itls), options.percents);
  metrics.e2el = Describe(std::move(e2els), options.percents);
  metrics.queue = Describe(std::move(queues), options.percents);
  metrics.e2el_with_queue = Describe(std::move(e2els_with_queue), options.percents);
  return metrics;
}

}  // namespace tiercel::bench
