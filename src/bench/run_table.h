// The runs of a sweep as a table to draw from: filters, bins and groups by the keys of its results. What they are
// written as is what `vllm bench sweep plot` takes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/json.h"
#include "base/status.h"

namespace tiercel::bench {

// Results of one run each, objects.
using Runs = std::vector<api::Json>;

// A number, also one that JSON has as a string ("inf") or as true.
std::optional<double> NumberOf(const api::Json& value);

// "a,b" as names; none of an empty text.
std::vector<std::string> ParseNames(std::string_view text);

// Each name must be a key of some run. `flag` names who asks.
Status CheckKeys(std::string_view flag, const std::vector<std::string>& names, const Runs& runs);

enum class Comparison { kEqual, kNotEqual, kAtMost, kAtLeast, kLess, kMore };
struct RunFilter {
  std::string key;
  Comparison comparison;
  std::string target;
};
// "max_concurrency<1000,backend=='openai'".
Expected<std::vector<RunFilter>> ParseFilters(std::string_view text);
// The runs that all filters let through. A run without the key is not equal to anything, and neither less nor more.
Expected<Runs> Filtered(const std::vector<RunFilter>& filters, const Runs& runs);

struct RunBin {
  std::string key;
  double size;
};
// "request_throughput%1,…": values become the multiple of the size at or below them.
Expected<std::vector<RunBin>> ParseBins(std::string_view text);
Expected<Runs> Binned(const std::vector<RunBin>& bins, Runs runs);

// Keys with their values as Python prints them.
using RunGroup = std::vector<std::pair<std::string, std::string>>;
// In the order in which they come first. A run without one of the keys is an error.
Expected<std::vector<std::pair<RunGroup, Runs>>> GroupBy(const std::vector<std::string>& keys, const Runs& runs);
// "a=1, b=2".
std::string GroupText(const RunGroup& group, std::string_view separator);

}  // namespace tiercel::bench
