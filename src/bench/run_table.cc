#include "bench/run_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/split.h"
#include "bench/parameter_sweep.h"

namespace tiercel::bench {
namespace {

using api::Json;

// As Python's float() reads a whole text, but for what lies beyond doubles.
std::optional<double> ParseNumber(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Longer operators first: "<" is within "<=".
constexpr std::pair<std::string_view, Comparison> kComparisons[] = {
    {"==", Comparison::kEqual},   {"!=", Comparison::kNotEqual}, {"<=", Comparison::kAtMost},
    {">=", Comparison::kAtLeast}, {"<", Comparison::kLess},      {">", Comparison::kMore}};

bool Passes(const RunFilter& filter, const Json& run) {
  const Json* value = run.Find(filter.key);
  const std::optional<double> target = ParseNumber(filter.target);
  const bool is_there = value != nullptr && !value->is_null();
  const double number = is_there ? NumberOf(*value).value_or(std::nan("")) : std::nan("");
  const bool equal = target ? number == *target : is_there && PythonStr(*value) == filter.target;
  switch (filter.comparison) {
    case Comparison::kEqual: return equal;
    case Comparison::kNotEqual: return !equal;
    case Comparison::kAtMost: return number <= *target;
    case Comparison::kAtLeast: return number >= *target;
    case Comparison::kLess: return number < *target;
    case Comparison::kMore: return number > *target;
  }
  return false;
}

bool IsOrdering(Comparison comparison) {
  return comparison != Comparison::kEqual && comparison != Comparison::kNotEqual;
}

}  // namespace

std::optional<double> NumberOf(const Json& value) {
  if (const int64_t* integer = value.integer(); integer != nullptr) return static_cast<double>(*integer);
  if (const bool* on = value.boolean(); on != nullptr) return *on ? 1 : 0;
  if (const std::string* text = value.string(); text != nullptr) {
    if (*text == "inf") return std::numeric_limits<double>::infinity();
    if (*text == "-inf") return -std::numeric_limits<double>::infinity();
    if (*text == "nan") return std::nan("");
    return std::nullopt;
  }
  return value.real();
}

std::vector<std::string> ParseNames(std::string_view text) {
  if (text.empty()) return {};
  std::vector<std::string> names;
  for (const std::string_view name : Split(text, ',')) names.emplace_back(Trimmed(name, " "));
  return names;
}

Status CheckKeys(std::string_view flag, const std::vector<std::string>& names, const Runs& runs) {
  for (const std::string& name : names) {
    if (std::any_of(runs.begin(), runs.end(), [&](const Json& run) { return run.Find(name) != nullptr; })) continue;
    std::string keys;
    for (const Json::Member& member : *runs.at(0).object()) {
      keys += fmt::format("{}{}", keys.empty() ? "" : ", ", member.key);
    }
    return InvalidArgument("argument {}: found '{}', expected a key of the results: {}", flag, name, keys);
  }
  return OkStatus();
}

Expected<std::vector<RunFilter>> ParseFilters(std::string_view text) {
  std::vector<RunFilter> filters;
  for (const std::string& part : ParseNames(text)) {
    const auto* const op = std::find_if(std::begin(kComparisons), std::end(kComparisons), [&](const auto& known) {
      return part.find(known.first) != std::string::npos;
    });
    if (op == std::end(kComparisons)) {
      return Unexpected(InvalidArgument(
          "argument --filter-by: found '{}', expected a key, one of == != <= >= < >, and a value", part));
    }
    const size_t at = part.find(op->first);
    const std::string_view target = std::string_view(part).substr(at + op->first.size());
    filters.push_back({part.substr(0, at), op->second, std::string(Trimmed(target, "'\""))});
    if (IsOrdering(op->second) && !ParseNumber(filters.back().target)) {
      return Unexpected(InvalidArgument("argument --filter-by: found '{}', expected a number behind {}", part, op->first));
    }
  }
  return filters;
}

Expected<Runs> Filtered(const std::vector<RunFilter>& filters, const Runs& runs) {
  Runs kept = runs;
  for (const RunFilter& filter : filters) {
    RETURN_IF_ERROR(CheckKeys("--filter-by", {filter.key}, runs));
    std::erase_if(kept, [&](const Json& run) { return !Passes(filter, run); });
  }
  return kept;
}

Expected<std::vector<RunBin>> ParseBins(std::string_view text) {
  std::vector<RunBin> bins;
  for (const std::string& part : ParseNames(text)) {
    const size_t at = std::min(part.find('%'), part.size());
    const std::optional<double> size = at < part.size() ? ParseNumber(std::string_view(part).substr(at + 1)) : std::nullopt;
    if (!size || !(*size > 0) || !std::isfinite(*size)) {
      return Unexpected(
          InvalidArgument("argument --bin-by: found '{}', expected a key and a size above 0: request_throughput%1", part));
    }
    bins.push_back({part.substr(0, at), *size});
  }
  return bins;
}

Expected<Runs> Binned(const std::vector<RunBin>& bins, Runs runs) {
  if (runs.empty()) return runs;
  for (const RunBin& bin : bins) {
    RETURN_IF_ERROR(CheckKeys("--bin-by", {bin.key}, runs));
    for (Json& run : runs) {
      Json* value = run.Find(bin.key);
      if (value == nullptr || value->is_null()) continue;
      const std::optional<double> number = NumberOf(*value);
      if (!number) {
        return Unexpected(InvalidArgument("argument --bin-by: {}: found {}, expected numbers", bin.key, value->DumpStart(64)));
      }
      *value = Json(std::floor(*number / bin.size) * bin.size);
    }
  }
  return runs;
}

Expected<std::vector<std::pair<RunGroup, Runs>>> GroupBy(const std::vector<std::string>& keys, const Runs& runs) {
  std::vector<std::pair<RunGroup, Runs>> groups;
  for (const Json& run : runs) {
    RunGroup group;
    for (const std::string& key : keys) {
      const Json* value = run.Find(key);
      if (value == nullptr) {
        return Unexpected(InvalidArgument("{}: not every run of the sweep has this key", key));
      }
      group.emplace_back(key, PythonStr(*value));
    }
    auto at = std::find_if(groups.begin(), groups.end(), [&](const auto& known) { return known.first == group; });
    if (at == groups.end()) at = groups.insert(groups.end(), {std::move(group), {}});
    at->second.push_back(run);
  }
  return groups;
}

std::string GroupText(const RunGroup& group, std::string_view separator) {
  std::string text;
  for (const auto& [key, value] : group) text += fmt::format("{}{}={}", text.empty() ? "" : separator, key, value);
  return text;
}

}  // namespace tiercel::bench
