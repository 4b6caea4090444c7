// Metrics: the text of /metrics in Prometheus' format, with vLLM's names.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/stats.h"
#include "server/tracing.h"

namespace tiercel::server {

using Labels = std::vector<std::pair<std::string, std::string>>;

// Writes families in order; a family's samples follow its Begin. Counters, summaries and histograms
// are followed by a gauge …_created, as Prometheus' Python client writes them.
class MetricsText {
 public:
  explicit MetricsText(double created) : created_(created) {}  // seconds since 1970

  void Begin(std::string_view name, std::string_view type, std::string_view help);
  void Sample(std::string_view suffix, const Labels& labels, double value);
  // The samples of a histogram: _bucket (cumulative, with +Inf), _count, _sum.
  void HistogramSamples(const Labels& labels, const engine::Histogram& histogram);
  std::string Finish();  // the whole text

 private:
  void EndFamily();

  const double created_;
  std::string name_, type_, help_, text_;
  std::vector<Labels> series_;  // of the family, those that have a time of creation
};

// What /metrics shows of one engine.
struct EngineMetrics {
  engine::Stats stats;
  std::string index;  // its label `engine`
};

struct EngineMetricsInfo {
  std::string model_name;
  Labels cache_config_labels;  // of vllm:cache_config_info
  bool sleeping = false;
};

// All series of the engines: present from the start, at 0 (no samples are missing before traffic).
void WriteEngineMetrics(const std::vector<EngineMetrics>& engines, const EngineMetricsInfo& info,
                        MetricsText* out);

// Requests by route, as prometheus-fastapi-instrumentator counts them. Thread-safe.
class HttpMetrics {
 public:
  HttpMetrics();
  // `handler` must come from a bounded set: the route, or "none".
  void Observe(std::string_view method, std::string_view handler, int status, double seconds,
               int64_t request_bytes, int64_t response_bytes);
  void Write(MetricsText* out) const;

 private:
  struct Totals {
    uint64_t count = 0;
    double sum = 0;
  };

  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::map<std::string, uint64_t>> requests_;
  std::map<std::pair<std::string, std::string>, engine::Histogram> durations_;
  std::map<std::string, Totals> request_sizes_, response_sizes_;
  engine::Histogram fine_durations_;
};

void WriteTraceMetrics(const SpanSink::Counts& counts, MetricsText* out);

// process_cpu_seconds_total, process_resident_memory_bytes, …
void WriteProcessMetrics(MetricsText* out);

}  // namespace tiercel::server
