// The log, metrics and traces.
// Names and defaults are vLLM's; see option_table.h for what the columns mean.
#include "options/option_table.h"

namespace tiercel::options {
namespace {

constexpr OptionSpec kLoggingConfig[] = {
    {"--logging-config", Kind::kJson, "", Effect::kNone,
     "Logging has one form here; the level is --log-level or VLLM_LOGGING_LEVEL."},
    {"--log-level", Kind::kString, "", Effect::kUsed,
     "Least severe messages to log (also VLLM_LOGGING_LEVEL).",
     "debug|info|warning|error|critical|DEBUG|INFO|WARNING|ERROR|CRITICAL"},
    {"--log-config-file", Kind::kString, "", Effect::kNone,
     "Logging has one form here; the level is --log-level or VLLM_LOGGING_LEVEL."},
};

constexpr OptionSpec kObservabilityConfig[] = {
    {"--show-hidden-metrics-for-version", Kind::kString, "", Effect::kNone,
     "Not offered; /metrics and the log have the figures."},
    {"--otlp-traces-endpoint", Kind::kString, "", Effect::kUsed,
     "Send a span of every request to this collector, by OTLP over HTTP, such as "
     "http://localhost:4318/v1/traces (also OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)."},
    {"--collect-detailed-traces", Kind::kStrings, "", Effect::kRefused,
     "A span of every request is what there is."},
    {"--per-request-spec-decode-metrics", Kind::kString, "none", Effect::kRefused,
     "Not offered; /metrics and the log have the figures."},
    {"--kv-cache-metrics", Kind::kSwitch, "False", Effect::kRefused,
     "Not offered; /metrics and the log have the figures."},
    {"--kv-cache-metrics-sample", Kind::kFloat, "0.01", Effect::kNone,
     "Not offered; /metrics and the log have the figures."},
    {"--custom-histogram-buckets", Kind::kJson, "", Effect::kRefused,
     "The buckets of /metrics are fixed."},
    {"--cudagraph-metrics", Kind::kSwitch, "False", Effect::kRefused,
     "Not offered; /metrics and the log have the figures."},
    {"--enable-layerwise-nvtx-tracing", Kind::kSwitch, "False", Effect::kNone,
     "Not offered; /metrics and the log have the figures."},
    {"--enable-mfu-metrics", Kind::kSwitch, "False", Effect::kRefused,
     "Not offered; /metrics and the log have the figures."},
    {"--enable-logging-iteration-details", Kind::kSwitch, "False", Effect::kRefused,
     "Not offered; /metrics and the log have the figures."},
    {"--jit-monitor-mode", Kind::kString, "warn", Effect::kNone,
     "Not offered; /metrics and the log have the figures."},
    {"--jit-monitor-verbose", Kind::kSwitch, "False", Effect::kNone,
     "Not offered; /metrics and the log have the figures."},
};

}  // namespace

std::span<const OptionGroup> ObservabilityOptionGroups() {
  static constexpr OptionGroup kGroups[] = {
      {"LoggingConfig", "The log.", kLoggingConfig},
      {"ObservabilityConfig", "Metrics and traces.", kObservabilityConfig},
  };
  return kGroups;
}

}  // namespace tiercel::options
