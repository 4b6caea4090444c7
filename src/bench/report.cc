#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace tiercel::bench {
namespace {

using api::Json;

// A metric with a section of its own in the table.
struct Section {
  const char* name;  // in --percentile-metrics and in the JSON keys
  const char* short_name;
  const char* title;
  const Distribution Metrics::*distribution;
};
constexpr Section kSections[] = {
    {"ttft", "TTFT", "Time to First Token", &Metrics::ttft},
    {"tpot", "TPOT", "Time per Output Token (excl. 1st token)", &Metrics::tpot},
    {"itl", "ITL", "Inter-token Latency", &Metrics::itl},
    {"e2el", "E2EL", "End-to-end Latency", &Metrics::e2el},
    {"client_queue_time", "Client Queue Time", "Client-side Queueing", &Metrics::queue},
    {"e2el_including_client_queue", "E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency",
     &Metrics::e2el_with_queue},
};

// The sections that were asked for and have something to say.
std::vector<const Section*> SectionsOf(const ServeRun& run) {
  std::vector<const Section*> sections;
  for (const Section& section : kSections) {
    const auto& wanted = run.percentile_metrics;
    if (std::find(wanted.begin(), wanted.end(), section.name) == wanted.end()) continue;
    const bool of_queue = section.distribution == &Metrics::queue;
    const bool with_queue = section.distribution == &Metrics::e2el_with_queue;
    if ((of_queue || with_queue) && run.max_concurrency == 0) continue;
    if (with_queue && std::isinf(run.traffic.request_rate)) continue;
    sections.push_back(&section);
  }
  return sections;
}

// 99 → "99", 99.9 → "99.9".
std::string PercentWord(double percent) {
  return percent == std::floor(percent) ? fmt::format("{:.0f}", percent)
                                        : fmt::format("{}", percent);
}

constexpr int kTableWidth = 50;

class Table {
 public:
  void Title(std::string_view text, char fill) {
    const size_t left = (kTableWidth - text.size()) / 2;
    out_ += std::string(left, fill);
    out_ += text;
    out_ += std::string(kTableWidth - left - text.size(), fill) + "\n";
  }
  void Count(std::string_view name, int64_t value) {
    out_ += fmt::format("{:<40} {:<10}\n", name, value);
  }
  void Number(std::string_view name, double value) {
    out_ += fmt::format("{:<40} {:<10.2f}\n", name, value);
  }
  void Line(std::string_view text) { out_ += fmt::format("{}\n", text); }
  std::string Take() { return std::move(out_) + std::string(kTableWidth, '=') + "\n"; }

 private:
  std::string out_;
};

template <typename T, typename List, typename Of>
Json ListOf(const List& list, Of of) {
  Json::Array array;
  array.reserve(list.size());
  for (const auto& item : list) array.emplace_back(T(of(item)));
  return Json(std::move(array));
}

std::string IsoTime(double unix_s) {
  const auto seconds = static_cast<std::time_t>(std::floor(unix_s));
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:06d}", text, static_cast<int>((unix_s - std::floor(unix_s)) * 1e6));
}

// When a ramp-up's rate passed each whole number.
Json RateChanges(const ServeRun& run, const LoadResult& load) {
  Json::Array changes;
  const auto add = [&](int64_t rps, double after_s) {
    changes.push_back(
        Json::Of({{"rps", Json(rps)}, {"timestamp", Json(IsoTime(run.start_unix_s + after_s))}}));
  };
  int64_t last = run.traffic.ramp_up->start_rps;
  add(last, 0);
  const int64_t count = std::ssize(load.outcomes) + load.unfinished;
  for (size_t i = 0; i < load.sent_s.size(); ++i) {
    const double rate = RateAt(run.traffic, static_cast<int64_t>(i), count);
    while (last < static_cast<int64_t>(rate)) add(++last, load.sent_s[i]);
  }
  return Json(std::move(changes));
}

void AddDetails(const Metrics& metrics, const LoadResult& load, Json::Object* json) {
  const auto& outcomes = load.outcomes;
  const auto add = [&](const char* key, Json value) { json->push_back({key, std::move(value)}); };
  add("input_lens", ListOf<int64_t>(outcomes, [](const Outcome& o) { return o.prompt_tokens; }));
  add("output_lens", ListOf<int64_t>(metrics.output_lens, [](int64_t n) { return n; }));
  add("ttfts", ListOf<double>(outcomes, [](const Outcome& o) { return o.ttft_s; }));
  add("itls", ListOf<Json>(outcomes, [](const Outcome& o) {
        return ListOf<double>(o.itls_s, [](double itl) { return itl; });
      }));
  add("start_times", ListOf<double>(outcomes, [](const Outcome& o) { return o.start_s; }));
  add("generated_texts", ListOf<std::string>(outcomes, [](const Outcome& o) { return o.text; }));
  add("errors", ListOf<std::string>(outcomes, [](const Outcome& o) { return o.error; }));
}

}  // namespace

const std::vector<std::string>& PercentileMetricNames() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Section& section : kSections) list.emplace_back(section.name);
    return list;
  }();
  return names;
}

std::string PythonFloat(double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

void AddDrafts(const DraftCounts& drafts, Table* table) {
  table->Title("Speculative Decoding", '-');
  table->Number("Acceptance rate (%):", 100 * drafts.AcceptanceRate());
  table->Number("Acceptance length:", drafts.AcceptanceLength());
  table->Count("Drafts:", static_cast<int64_t>(drafts.drafts));
  table->Count("Draft tokens:", static_cast<int64_t>(drafts.draft_tokens));
  table->Count("Accepted tokens:", static_cast<int64_t>(drafts.accepted_tokens));
  if (!drafts.accepted_per_position.empty()) table->Line("Per-position acceptance (%):");
  for (size_t i = 0; i < drafts.accepted_per_position.size(); ++i) {
    table->Number(fmt::format("  Position {}:", i), 100 * drafts.RateAt(i));
  }
}

void AddDrafts(const DraftCounts& drafts, Json::Object* json) {
  const auto add = [&](const char* key, Json value) { json->push_back({key, std::move(value)}); };
  add("spec_decode_acceptance_rate", 100 * drafts.AcceptanceRate());
  add("spec_decode_acceptance_length", drafts.AcceptanceLength());
  add("spec_decode_num_drafts", static_cast<int64_t>(drafts.drafts));
  add("spec_decode_draft_tokens", static_cast<int64_t>(drafts.draft_tokens));
  add("spec_decode_accepted_tokens", static_cast<int64_t>(drafts.accepted_tokens));
  Json::Array rates;
  for (size_t i = 0; i < drafts.accepted_per_position.size(); ++i) rates.emplace_back(drafts.RateAt(i));
  add("spec_decode_per_position_acceptance_rates", Json(std::move(rates)));
}

std::string RenderTable(const ServeRun& run, const Metrics& metrics, double duration_s) {
  Table table;
  table.Title(" Serving Benchmark Result ", '=');
  table.Count("Successful requests:", metrics.completed);
  table.Count("Failed requests:", metrics.failed);
  if (run.max_concurrency > 0) table.Count("Maximum request concurrency:", run.max_concurrency);
  if (!std::isinf(run.traffic.request_rate)) {
    table.Number("Request rate configured (RPS):", run.traffic.request_rate);
  }
  table.Number("Benchmark duration (s):", duration_s);
  table.Count("Total input tokens:", metrics.total_input);
  table.Count("Total generated tokens:", metrics.total_output);
  table.Number("Request throughput (req/s):", metrics.request_throughput);
  if (metrics.request_goodput) table.Number("Request goodput (req/s):", *metrics.request_goodput);
  table.Number("Output token throughput (tok/s):", metrics.output_throughput);
  table.Number("Peak output token throughput (tok/s):", metrics.max_output_tokens_per_s);
  table.Number("Peak concurrent requests:", static_cast<double>(metrics.max_concurrent_requests));
  table.Number("Total token throughput (tok/s):", metrics.total_token_throughput);
  for (const Section* section : SectionsOf(run)) {
    const Distribution& values = metrics.*section->distribution;
    table.Title(section->title, '-');
    table.Number(fmt::format("Mean {} (ms):", section->short_name), values.mean);
    table.Number(fmt::format("Median {} (ms):", section->short_name), values.median);
    for (const auto& [percent, value] : values.percentiles) {
      table.Number(fmt::format("P{} {} (ms):", PercentWord(percent), section->short_name), value);
    }
  }
  if (metrics.drafts) AddDrafts(*metrics.drafts, &table);
  return table.Take();
}

Json ResultJson(const ServeRun& run, const Metrics& metrics, const LoadResult& load,
                bool detailed) {
  Json::Object json;
  const auto add = [&](std::string key, Json value) {
    json.push_back({std::move(key), std::move(value)});
  };
  const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(); };
  add("date", run.date);
  add("endpoint_type", run.backend);  // an older name of the next one
  add("backend", run.backend);
  add("label", or_null(run.label));
  add("model_id", run.model_id);
  add("tokenizer_id", or_null(run.tokenizer_id));
  add("num_prompts", run.num_prompts);
  for (const auto& [key, value] : run.metadata) add(key, value);
  const double rate = run.traffic.request_rate, burstiness = run.traffic.burstiness;
  add("request_rate", std::isinf(rate) ? Json("inf") : Json(rate));
  add("burstiness", std::isinf(burstiness) ? Json("inf") : Json(burstiness));
  add("max_concurrency", run.max_concurrency > 0 ? Json(run.max_concurrency) : Json());
  if (const auto& ramp_up = run.traffic.ramp_up) {
    add("ramp_up_strategy", ramp_up->exponential ? "exponential" : "linear");
    add("ramp_up_start_rps", ramp_up->start_rps);
    add("ramp_up_end_rps", ramp_up->end_rps);
  }
  add("duration", load.duration_s);
  add("completed", metrics.completed);
  add("failed", metrics.failed);
  add("total_input_tokens", metrics.total_input);
  add("total_output_tokens", metrics.total_output);
  add("request_throughput", metrics.request_throughput);
  add("request_goodput", or_null(metrics.request_goodput));
  add("output_throughput", metrics.output_throughput);
  add("total_token_throughput", metrics.total_token_throughput);
  if (detailed) AddDetails(metrics, load, &json);
  // vLLM keeps these two without --save-detailed as well.
  add("latencies", ListOf<double>(load.outcomes, [](const Outcome& o) { return o.latency_s; }));
  add("queue_times", ListOf<double>(load.outcomes, [](const Outcome& o) { return o.queue_s; }));
  add("max_output_tokens_per_s", metrics.max_output_tokens_per_s);
  add("max_concurrent_requests", metrics.max_concurrent_requests);
  add("rtfx", 0.0);  // of audio
  if (run.traffic.ramp_up) add("rps_change_events", RateChanges(run, load));
  for (const Section* section : SectionsOf(run)) {
    const Distribution& values = metrics.*section->distribution;
    add(fmt::format("mean_{}_ms", section->name), values.mean);
    add(fmt::format("median_{}_ms", section->name), values.median);
    add(fmt::format("std_{}_ms", section->name), values.std);
    for (const auto& [percent, value] : values.percentiles) {
      add(fmt::format("p{}_{}_ms", PercentWord(percent), section->name), value);
    }
  }
  if (metrics.drafts) AddDrafts(*metrics.drafts, &json);
  return Json(std::move(json));
}

std::string ResultFileName(const ServeRun& run) {
  const std::string rate =
      run.traffic.ramp_up
          ? fmt::format("ramp-up-{}-{}qps-{}qps",
                        run.traffic.ramp_up->exponential ? "exponential" : "linear",
                        run.traffic.ramp_up->start_rps, run.traffic.ramp_up->end_rps)
          : PythonFloat(run.traffic.request_rate) + "qps";
  const std::string concurrency =
      run.max_concurrency > 0 ? fmt::format("-concurrency{}", run.max_concurrency) : "";
  // The last part of a path or hub id, without what would lead elsewhere.
  std::string model = run.model_id;
  while (model.ends_with('/')) model.pop_back();
  model = model.substr(model.rfind('/') + 1);
  return fmt::format("{}-{}{}-{}-{}.json", run.label.value_or(run.backend), rate, concurrency,
                     model, run.date);
}

}  // namespace tiercel::bench
