#include "bench/tuning_goal.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/split.h"

namespace tiercel::bench {
namespace {

// The whole of `text` as a number above 0.
template <typename Number>
std::optional<Number> Positive(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !(number > 0)) return std::nullopt;
  return number;
}

Status BadLoad(std::string_view text) {
  return InvalidArgument(
      "argument --load: found '{}', expected random:INPUT/OUTPUT@CONCURRENCY, as in random:200/128@8, or "
      "FILE@CONCURRENCY",
      text);
}

constexpr int64_t kMaxConcurrency = 1 << 16;

}  // namespace

Expected<TuningLoad> ParseTuningLoad(std::string_view text, int64_t num_prompts) {
  TuningLoad load;
  std::string_view rest = text;
  if (const size_t at = rest.rfind('@'); at != std::string_view::npos) {
    if (const auto concurrency = Positive<int64_t>(rest.substr(at + 1)); concurrency) {
      if (*concurrency > kMaxConcurrency) return Unexpected(BadLoad(text));
      load.max_concurrency = *concurrency;
      rest = rest.substr(0, at);
    }
  }
  constexpr std::string_view kRandom = "random:";
  if (rest.starts_with(kRandom)) {
    const std::vector<std::string_view> lengths = Split(rest.substr(kRandom.size()), '/');
    const auto input = Positive<int64_t>(lengths[0]);
    const auto output = lengths.size() == 2 ? Positive<int64_t>(lengths[1]) : std::nullopt;
    if (!input || !output || load.max_concurrency == 0) return Unexpected(BadLoad(text));
    load.data_set.random.input_len = *input;
    load.data_set.random.output_len = *output;
    load.data_set.num_prompts = num_prompts > 0 ? num_prompts : load.max_concurrency;
    return load;
  }
  if (rest.empty()) return Unexpected(BadLoad(text));
  load.data_set.name = rest.ends_with(".json") ? "sharegpt" : rest.ends_with(".csv") ? "burstgpt" : "custom";
  load.data_set.path = std::string(rest);
  load.data_set.custom_output_len = -1;  // each line's own
  load.data_set.oversample = false;
  constexpr int64_t kFewest = 16;
  load.data_set.num_prompts =
      num_prompts > 0 ? num_prompts : std::max(kFewest, 2 * load.max_concurrency);
  return load;
}

Expected<TuningGoal> TuningGoal::Parse(std::string_view text) {
  TuningGoal goal;
  constexpr std::string_view kGoodput = "goodput:";
  const Status bad = InvalidArgument(
      "argument --goal: found '{}', expected throughput, ttft, itl, or goodput with bounds in milliseconds, as in "
      "goodput:ttft:500,tpot:60",
      text);
  if (text == "ttft") {
    goal.kind_ = Kind::kTtft;
  } else if (text == "itl") {
    goal.kind_ = Kind::kItl;
  } else if (text.starts_with(kGoodput)) {
    goal.kind_ = Kind::kGoodput;
    for (const std::string_view bound : Split(text.substr(kGoodput.size()), ',')) {
      const std::vector<std::string_view> parts = Split(bound, ':');
      const auto ms = parts.size() == 2 ? Positive<double>(parts[1]) : std::nullopt;
      const bool known = parts[0] == "ttft" || parts[0] == "tpot" || parts[0] == "e2el";
      if (!known || !ms) return Unexpected(bad);
      goal.goodput_ms_[std::string(parts[0])] = *ms;
    }
  } else if (text != "throughput") {
    return Unexpected(bad);
  }
  return goal;
}

double TuningGoal::Score(const Metrics& metrics) const {
  const auto inverse = [](double ms) { return ms > 0 ? 1 / ms : 0; };
  switch (kind_) {
    case Kind::kThroughput: return metrics.output_throughput;
    case Kind::kTtft: return inverse(metrics.ttft.mean);
    case Kind::kItl: return inverse(metrics.itl.mean);
    case Kind::kGoodput: return metrics.request_goodput.value_or(0);
  }
  return 0;
}

double TuningGoal::Figure(double score) const {
  return less_is_better() ? (score > 0 ? 1 / score : 0) : score;
}

std::string_view TuningGoal::unit() const {
  switch (kind_) {
    case Kind::kThroughput: return "output tokens/s";
    case Kind::kTtft: return "mean TTFT, ms";
    case Kind::kItl: return "mean ITL, ms";
    case Kind::kGoodput: return "good requests/s";
  }
  return "";
}

}  // namespace tiercel::bench
