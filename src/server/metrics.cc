#include "server/metrics.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace tiercel::server {

namespace {

std::string Number(double value) {
  if (std::isinf(value)) return "+Inf";
  // Counters are integers far below 2^53; as Prometheus' Python client writes them: "3.0".
  if (value == std::floor(value) && std::abs(value) < 1e15) return fmt::format("{:.1f}", value);
  return fmt::format("{}", value);
}

void AppendLabels(const Labels& labels, std::string* out) {
  if (labels.empty()) return;
  *out += '{';
  bool is_first = true;
  for (const auto& [name, value] : labels) {
    if (!is_first) *out += ',';
    is_first = false;
    *out += name;
    *out += "=\"";
    for (const char c : value) {
      if (c == '\\' || c == '"') *out += '\\';
      if (c == '\n') {
        *out += "\\n";
      } else {
        *out += c;
      }
    }
    *out += '"';
  }
  *out += '}';
}

Labels With(Labels labels, std::string name, std::string value) {
  labels.emplace_back(std::move(name), std::move(value));
  return labels;
}

}  // namespace

void MetricsText::Begin(std::string_view name, std::string_view type, std::string_view help) {
  EndFamily();
  name_ = name;
  type_ = type;
  help_ = help;
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

// The process' own metrics have none: they were not created by the server.
void MetricsText::EndFamily() {
  const std::vector<Labels> series = std::exchange(series_, {});
  if (series.empty() || name_.substr(0, 8) == "process_") return;
  std::string_view stem = name_;
  constexpr std::string_view kTotal = "_total";
  if (type_ == "counter" && stem.size() > kTotal.size() &&
      stem.substr(stem.size() - kTotal.size()) == kTotal) {
    stem.remove_suffix(kTotal.size());
  }
  const std::string name = std::string(stem) + "_created";
  text_ += fmt::format("# HELP {} {}\n# TYPE {} gauge\n", name, help_, name);
  name_ = name;
  for (const Labels& labels : series) Sample("", labels, created_);
  series_.clear();
}

std::string MetricsText::Finish() {
  EndFamily();
  return std::move(text_);
}

void MetricsText::Sample(std::string_view suffix, const Labels& labels, double value) {
  const bool whole_series = type_ == "counter" ? suffix.empty() : suffix == "_count";
  if (whole_series) series_.push_back(labels);
  text_ += name_;
  text_ += suffix;
  AppendLabels(labels, &text_);
  text_ += ' ';
  text_ += Number(value);
  text_ += '\n';
}

void MetricsText::HistogramSamples(const Labels& labels, const engine::Histogram& histogram) {
  uint64_t cumulative = 0;
  for (size_t i = 0; i < histogram.bounds.size(); ++i) {
    cumulative += histogram.counts[i];
    Sample("_bucket", With(labels, "le", Number(histogram.bounds[i])),
           static_cast<double>(cumulative));
  }
  Sample("_bucket", With(labels, "le", "+Inf"), static_cast<double>(histogram.count));
  Sample("_count", labels, static_cast<double>(histogram.count));
  Sample("_sum", labels, histogram.sum);
}

namespace {

// Writes families of which every engine has the same series.
class EngineFamilies {
 public:
  EngineFamilies(const std::vector<EngineMetrics>& engines, const std::string& model_name,
                 MetricsText* out)
      : out_(out) {
    for (const EngineMetrics& engine : engines) {
      engines_.push_back({&engine.stats, {{"model_name", model_name}, {"engine", engine.index}}});
    }
  }

  // `sample(stats, labels)` writes those of one engine.
  template <typename F>
  void Family(std::string_view name, std::string_view type, std::string_view help, F&& sample) {
    out_->Begin(name, type, help);
    for (const auto& [stats, labels] : engines_) sample(*stats, labels);
  }

  // One series for each engine.
  template <typename F>
  void One(std::string_view name, std::string_view type, std::string_view help, F&& value) {
    Family(name, type, help, [&](const engine::Stats& stats, const Labels& labels) {
      out_->Sample("", labels, static_cast<double>(value(stats)));
    });
  }

  void Sample(const Labels& labels, uint64_t value) { out_->Sample("", labels, static_cast<double>(value)); }

  template <typename F>
  bool Any(F&& is) const {
    return std::ranges::any_of(engines_, [&](const auto& engine) { return is(*engine.first); });
  }

  // One for each value of a label.
  template <typename F>
  void ByLabel(std::string_view name, std::string_view type, std::string_view help, const char* label,
               F&& values) {
    Family(name, type, help, [&](const engine::Stats& stats, const Labels& labels) {
      for (const auto& [key, value] : values(stats)) {
        out_->Sample("", With(labels, label, key), static_cast<double>(value));
      }
    });
  }

 private:
  MetricsText* const out_;
  std::vector<std::pair<const engine::Stats*, Labels>> engines_;
};

using Values = std::vector<std::pair<const char*, uint64_t>>;

void WriteGauges(const std::vector<EngineMetrics>& engines, const EngineMetricsInfo& info,
                 EngineFamilies* out, MetricsText* text) {
  const auto gauge = [&](std::string_view name, std::string_view help, auto engine::Stats::* member) {
    out->One(name, "gauge", help, [member](const engine::Stats& s) { return s.*member; });
  };
  gauge("vllm:num_requests_running", "Number of requests in model execution batches.",
        &engine::Stats::num_requests_running);
  gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.",
        &engine::Stats::num_requests_waiting);
  out->ByLabel("vllm:num_requests_waiting_by_reason", "gauge",
               "Number of waiting requests by the reason for which they wait.", "reason",
               [](const engine::Stats& s) {
                 return Values{{"capacity", static_cast<uint64_t>(s.num_requests_waiting)},
                               {"deferred", 0}};
               });
  gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.",
        &engine::Stats::kv_cache_usage);
  gauge("vllm:gpu_cache_usage_perc",
        "KV-cache usage, under its older name. 1 means 100 percent usage.",
        &engine::Stats::kv_cache_usage);
  out->ByLabel("vllm:engine_sleep_state", "gauge", "Engine sleep state; 1 for the current one.",
               "sleep_state", [&](const engine::Stats&) {
                 const uint64_t sleeping = info.sleeping ? 1 : 0;
                 return Values{{"awake", 1 - sleeping}, {"weights_offloaded", sleeping},
                               {"discard_all", 0}};
               });
  text->Begin("vllm:lora_requests_info", "gauge", "Running stats on LoRA requests.");
  text->Sample("", {{"max_lora", "0"}, {"waiting_lora_adapters", ""}, {"running_lora_adapters", ""}},
               0);
  text->Begin("vllm:cache_config_info", "gauge", "Information of the cache configuration.");
  for (const EngineMetrics& engine : engines) {
    Labels cache = info.cache_config_labels;
    cache.emplace_back("num_gpu_blocks", std::to_string(engine.stats.num_gpu_blocks));
    cache.emplace_back("engine", engine.index);
    text->Sample("", cache, 1);
  }
}

void WriteCounters(EngineFamilies* out) {
  const auto counter = [&](std::string_view name, std::string_view help,
                           uint64_t engine::Stats::* member) {
    out->One(name, "counter", help, [member](const engine::Stats& s) { return s.*member; });
  };
  const auto by_label = [&](std::string_view name, std::string_view help, const char* label,
                            Values (*values)(const engine::Stats&)) {
    out->ByLabel(name, "counter", help, label, values);
  };
  const auto none = [](const engine::Stats&) { return 0; };
  counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.",
          &engine::Stats::prompt_tokens);
  counter("vllm:prompt_tokens_cached_total", "Number of prefill tokens found in the prefix cache.",
          &engine::Stats::prompt_tokens_cached);
  by_label("vllm:prompt_tokens_by_source_total", "Number of prefill tokens by the source of their KV.",
           "source", [](const engine::Stats& s) {
             return Values{{"local_compute", s.prompt_tokens - s.prompt_tokens_cached},
                           {"local_cache_hit", s.prompt_tokens_cached}};
           });
  by_label("vllm:prompt_tokens_cached_by_source_total",
           "Number of cached prefill tokens by where their KV was.", "source",
           [](const engine::Stats& s) { return Values{{"device", s.prompt_tokens_cached}}; });
  counter("vllm:generation_tokens_total", "Number of generation tokens processed.",
          &engine::Stats::generation_tokens);
  counter("vllm:prefix_cache_queries_total",
          "Prefix cache queries, in terms of number of queried tokens.",
          &engine::Stats::prefix_cache_queries);
  counter("vllm:prefix_cache_hits_total",
          "Prefix cache hits, in terms of number of cached tokens.", &engine::Stats::prefix_cache_hits);
  counter("vllm:gpu_prefix_cache_queries_total",
          "Prefix cache queries in tokens, under their older name.",
          &engine::Stats::prefix_cache_queries);
  counter("vllm:gpu_prefix_cache_hits_total", "Prefix cache hits in tokens, under their older name.",
          &engine::Stats::prefix_cache_hits);
  out->One("vllm:external_prefix_cache_queries_total", "counter",
           "External prefix cache queries, in tokens.", none);
  out->One("vllm:external_prefix_cache_hits_total", "counter",
           "External prefix cache hits, in tokens.", none);
  counter("vllm:num_preemptions_total", "Cumulative number of preemptions from the engine.",
          &engine::Stats::num_preemptions);
  by_label("vllm:request_success_total", "Count of finished requests.", "finished_reason",
           [](const engine::Stats& s) {
             return Values{{"stop", s.finished_stop}, {"length", s.finished_length},
                           {"abort", s.finished_abort}, {"error", s.finished_error},
                           {"repetition", s.finished_repetition}};
           });
  const auto guessed = [&](std::string_view name, std::string_view help, uint64_t engine::DraftStats::* member) {
    out->One(name, "counter", help, [member](const engine::Stats& s) { return s.drafts.*member; });
  };
  if (out->Any([](const engine::Stats& s) { return !s.drafts.accepted_per_pos.empty(); })) {
    guessed("vllm:spec_decode_num_drafts_total", "Number of spec decoding drafts.", &engine::DraftStats::drafts);
    guessed("vllm:spec_decode_num_draft_tokens_total", "Number of draft tokens.", &engine::DraftStats::tokens);
    guessed("vllm:spec_decode_num_accepted_tokens_total", "Number of accepted tokens.", &engine::DraftStats::accepted);
    out->Family("vllm:spec_decode_num_accepted_tokens_per_pos_total", "counter",
                "Accepted tokens per draft position.", [&](const engine::Stats& s, const Labels& labels) {
                  for (size_t i = 0; i < s.drafts.accepted_per_pos.size(); ++i) {
                    out->Sample(With(labels, "position", std::to_string(i)), s.drafts.accepted_per_pos[i]);
                  }
                });
  }
  by_label("tiercel:model_steps_total",
           "Steps that replayed a captured program, and steps that recorded one anew.", "graph",
           [](const engine::Stats& s) {
             return Values{{"replayed", s.steps_replayed}, {"eager", s.steps_eager}};
           });
  by_label("vllm:admission_rejections_total", "Requests refused at admission.", "reason",
           [](const engine::Stats& s) {
             return Values{{"max_num_queued_reqs", s.rejected_queued_reqs},
                           {"max_num_queued_tokens", s.rejected_queued_tokens}};
           });
}

void WriteHistograms(EngineFamilies* out, MetricsText* text) {
  using engine::Stats;
  struct Entry {
    const char* name;
    const char* help;
    engine::Histogram Stats::* histogram;
  };
  static constexpr Entry kEntries[] = {
      {"vllm:request_prompt_tokens", "Number of prefill tokens processed.", &Stats::request_prompt_tokens},
      {"vllm:request_generation_tokens", "Number of generation tokens processed.",
       &Stats::request_generation_tokens},
      {"vllm:request_max_num_generation_tokens",
       "Histogram of maximum number of requested generation tokens.",
       &Stats::request_max_num_generation_tokens},
      {"vllm:iteration_tokens_total", "Histogram of number of tokens per engine_step.",
       &Stats::iteration_tokens},
      {"vllm:request_params_n", "Histogram of the n request parameter.", &Stats::request_params_n},
      {"vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.",
       &Stats::request_params_max_tokens},
      {"vllm:request_num_preemptions", "Histogram of the number of preemptions per request.",
       &Stats::request_num_preemptions},
      {"vllm:request_prefill_kv_computed_tokens",
       "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
       &Stats::request_prefill_kv_computed_tokens},
      {"vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.",
       &Stats::time_to_first_token},
      {"vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.",
       &Stats::inter_token_latency},
      {"vllm:time_per_output_token_seconds",
       "Histogram of inter-token latency in seconds, under its older name.", &Stats::inter_token_latency},
      {"vllm:request_time_per_output_token_seconds",
       "Histogram of time per output token in seconds per request.",
       &Stats::request_time_per_output_token},
      {"vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.",
       &Stats::e2e_request_latency},
      {"vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.",
       &Stats::request_queue_time},
      {"vllm:request_inference_time_seconds",
       "Histogram of time spent in RUNNING phase for request.", &Stats::request_inference_time},
      {"vllm:request_prefill_time_seconds",
       "Histogram of time spent in PREFILL phase for request.", &Stats::request_prefill_time},
      {"vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.",
       &Stats::request_decode_time},
  };
  for (const Entry& entry : kEntries) {
    out->Family(entry.name, "histogram", entry.help, [&](const Stats& stats, const Labels& labels) {
      text->HistogramSamples(labels, stats.*entry.histogram);
    });
  }
}

}  // namespace

void WriteEngineMetrics(const std::vector<EngineMetrics>& engines, const EngineMetricsInfo& info,
                        MetricsText* out) {
  EngineFamilies families(engines, info.model_name, out);
  WriteGauges(engines, info, &families, out);
  WriteCounters(&families);
  WriteHistograms(&families, out);
}

HttpMetrics::HttpMetrics()
    : fine_durations_({.01, .025, .05, .075, .1, .25, .5, .75, 1, 1.5, 2, 2.5, 3,
                       3.5, 4, 4.5, 5, 7.5, 10, 30, 60}) {}

void HttpMetrics::Observe(std::string_view method, std::string_view handler, int status,
                          double seconds, int64_t request_bytes, int64_t response_bytes) {
  const std::pair<std::string, std::string> key{method, handler};
  std::lock_guard lock(mutex_);
  ++requests_[key][fmt::format("{}xx", status / 100)];
  durations_.try_emplace(key, engine::Histogram({.1, .5, 1})).first->second.Observe(seconds);
  fine_durations_.Observe(seconds);
  for (const auto& [sizes, bytes] :
       {std::pair{&request_sizes_, request_bytes}, std::pair{&response_sizes_, response_bytes}}) {
    Totals& totals = (*sizes)[key.second];
    ++totals.count;
    totals.sum += static_cast<double>(bytes);
  }
}

void HttpMetrics::Write(MetricsText* out) const {
  std::lock_guard lock(mutex_);
  out->Begin("http_requests_total", "counter",
             "Total number of requests by method, status and handler.");
  for (const auto& [key, by_status] : requests_) {
    for (const auto& [status, count] : by_status) {
      out->Sample("", {{"handler", key.second}, {"method", key.first}, {"status", status}},
                  static_cast<double>(count));
    }
  }
  const auto sizes = [&](std::string_view name, std::string_view help,
                         const std::map<std::string, Totals>& by_handler) {
    out->Begin(name, "summary", help);
    for (const auto& [handler, totals] : by_handler) {
      out->Sample("_count", {{"handler", handler}}, static_cast<double>(totals.count));
      out->Sample("_sum", {{"handler", handler}}, totals.sum);
    }
  };
  sizes("http_request_size_bytes", "Content length of incoming requests by handler.",
        request_sizes_);
  sizes("http_response_size_bytes", "Content length of outgoing responses by handler.",
        response_sizes_);
  out->Begin("http_request_duration_highr_seconds", "histogram",
             "Latency with many buckets but no API specific labels.");
  out->HistogramSamples({}, fine_durations_);
  out->Begin("http_request_duration_seconds", "histogram",
             "Latency with only few buckets by handler.");
  for (const auto& [key, histogram] : durations_) {
    out->HistogramSamples({{"handler", key.second}, {"method", key.first}}, histogram);
  }
}

namespace {

// Of this process, since 1970: the boot's time and the ticks from there (field 22 of stat, the
// 20th behind the program's name, which may hold blanks and parentheses). 0 if it is not told.
double ProcessStartTime() {
  double boot = 0;
  std::ifstream system("/proc/stat");
  for (std::string line; std::getline(system, line);) {
    if (line.rfind("btime ", 0) == 0) boot = std::strtod(line.c_str() + 6, nullptr);
  }
  std::string stat;
  std::getline(std::ifstream("/proc/self/stat"), stat, '\0');
  const size_t name_end = stat.rfind(')');
  if (boot == 0 || name_end == std::string::npos) return 0;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;
  return boot + std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

void WriteTraceMetrics(const SpanSink::Counts& counts, MetricsText* out) {
  out->Begin("tiercel:trace_spans_exported_total", "counter", "Spans that the collector has taken.");
  out->Sample("", {}, static_cast<double>(counts.exported));
  out->Begin("tiercel:trace_spans_dropped_total", "counter",
             "Spans that were lost: no room in the queue, or not taken by the collector.");
  out->Sample("", {}, static_cast<double>(counts.dropped));
}

void WriteProcessMetrics(MetricsText* out) {
  const auto single = [&](std::string_view name, std::string_view type, std::string_view help,
                          double value) {
    out->Begin(name, type, help);
    out->Sample("", {}, value);
  };
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  single("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
         seconds(usage.ru_utime) + seconds(usage.ru_stime));
  std::ifstream statm("/proc/self/statm");
  double virtual_pages = 0;
  double resident_pages = 0;
  statm >> virtual_pages >> resident_pages;
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
         virtual_pages * page);
  single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
         resident_pages * page);
  single("process_start_time_seconds", "gauge",
         "Start time of the process since unix epoch in seconds.", ProcessStartTime());
  std::error_code error;
  const auto fds = std::distance(std::filesystem::directory_iterator("/proc/self/fd", error),
                                 std::filesystem::directory_iterator());
  single("process_open_fds", "gauge", "Number of open file descriptors.", static_cast<double>(fds));
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  single("process_max_fds", "gauge", "Maximum number of open file descriptors.",
         static_cast<double>(limit.rlim_cur));
}

}  // namespace tiercel::server
