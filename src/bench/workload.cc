#include "bench/workload.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "bench/run_table.h"

namespace tiercel::bench {
namespace {

using api::Json;

constexpr int64_t kDefaultPrompts = 1000;  // of `bench serve`
constexpr std::string_view kFlag = "--num-prompts";

Expected<double> Figure(const Json& run, std::string_view key) {
  const Json* value = run.Find(key);
  const std::optional<double> number = value == nullptr ? std::nullopt : NumberOf(*value);
  if (number && std::isfinite(*number)) return *number;
  return Unexpected(FailedPrecondition("{}: found none in the results of a run, expected a number", key));
}

}  // namespace

std::string_view NameOf(WorkloadVariable variable) {
  return variable == WorkloadVariable::kRequestRate ? "request_rate" : "max_concurrency";
}

Expected<int64_t> PromptCount(const SweepItem& bench, const std::vector<std::string>& command) {
  std::string text = std::to_string(kDefaultPrompts);
  if (const Json* own = FindParameter(bench, "num_prompts"); own != nullptr) {
    text = PythonStr(*own);
  } else {
    for (size_t i = 0; i < command.size(); ++i) {
      const std::string& word = command[i];
      if (word == kFlag && i + 1 < command.size()) text = command[i + 1];
      if (word.starts_with(kFlag) && word.substr(kFlag.size(), 1) == "=") text = word.substr(kFlag.size() + 1);
    }
  }
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1) {
    return Unexpected(InvalidArgument("num_prompts: found {}, expected a number above 0", text));
  }
  return count;
}

Expected<double> ReachedLevel(WorkloadVariable variable, const Json::Array& runs) {
  double sum = 0;
  for (const Json& run : runs) {
    ASSIGN_OR_RETURN(double level, Figure(run, "request_throughput"));
    if (variable == WorkloadVariable::kMaxConcurrency) {
      ASSIGN_OR_RETURN(const double latency_ms, Figure(run, "mean_e2el_ms"));
      level *= latency_ms / 1000;
    }
    sum += level;
  }
  return sum / static_cast<double>(runs.size());
}

std::vector<int64_t> LevelsBetween(int64_t serial, int64_t batch, int64_t count) {
  std::set<int64_t> levels;
  for (int64_t i = 1; i + 1 < count; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(count - 1);
    // Half to even, as Python rounds.
    const double level = std::nearbyint(static_cast<double>(serial) + share * static_cast<double>(batch - serial));
    if (level >= 1) levels.insert(static_cast<int64_t>(level));
  }
  return {levels.begin(), levels.end()};
}

}  // namespace tiercel::bench
