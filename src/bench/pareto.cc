#include "bench/pareto.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "bench/parameter_sweep.h"
#include "bench/svg_chart.h"

namespace tiercel::bench {
namespace {

using api::Json;

constexpr SvgChart::Place kPlace{90, 90, 900, 520};
constexpr std::string_view kAll = "#9a9a9a", kFrontier = "#1b6ca8";

// Keys of results are flags, which may be written with '-' or '_'.
const Json* FindEither(const Json& run, const std::string& key) {
  std::string other = key;
  if (const Json* value = run.Find(key); value != nullptr) return value;
  std::replace(other.begin(), other.end(), '-', '_');
  if (const Json* value = run.Find(other); value != nullptr) return value;
  std::replace(other.begin(), other.end(), '_', '-');
  return run.Find(other);
}

// The first key that the run has decides; nothing if its value is null, 0 or infinite (a rate may be).
Expected<std::optional<double>> CountOf(const Json& run, std::initializer_list<std::string> keys) {
  for (const std::string& key : keys) {
    const Json* value = key.empty() ? nullptr : FindEither(run, key);
    if (value == nullptr) continue;
    if (value->is_null()) return std::nullopt;
    const std::optional<double> number = NumberOf(*value);
    if (!number) return Unexpected(InvalidArgument("{}: found {}, expected a number", key, value->DumpStart(64)));
    return *number > 0 && std::isfinite(*number) ? number : std::nullopt;
  }
  return std::nullopt;
}

Expected<double> DevicesOf(const Json& run, const std::string& key) {
  ASSIGN_OR_RETURN(const std::optional<double> given, CountOf(run, {key}));
  if (given) return *given;
  double devices = 1;
  for (const auto& [name, short_name] : {std::pair{"tensor_parallel_size", "tp"}, std::pair{"pipeline_parallel_size", "pp"},
                                         std::pair{"data_parallel_size", "dp"}}) {
    ASSIGN_OR_RETURN(const std::optional<double> size, CountOf(run, {name, short_name}));
    devices *= size.value_or(1);
  }
  return devices;
}

std::string LabelOf(const std::vector<std::string>& keys, double devices, const Json& run) {
  RunGroup group;
  for (const std::string& key : keys) {
    const Json* value = FindEither(run, key);
    if (value != nullptr) {
      group.emplace_back(key, PythonStr(*value));
    } else if (key == "gpu_count") {
      group.emplace_back(key, fmt::format("{:g}", devices));
    }
  }
  return GroupText(group, ", ");
}

}  // namespace

Expected<Pareto> FindPareto(const ParetoKeys& keys, const Runs& runs) {
  Pareto pareto;
  for (const Json& run : runs) {
    const Json* throughput = run.Find("output_throughput");
    const std::optional<double> tokens = throughput == nullptr ? std::nullopt : NumberOf(*throughput);
    if (!tokens) return Unexpected(InvalidArgument("output_throughput: found none in a run, expected a number"));
    ASSIGN_OR_RETURN(std::optional<double> users, CountOf(run, {keys.users, "request_rate"}));
    if (!users) {
      ASSIGN_OR_RETURN(users, CountOf(run, {"max_concurrent_requests"}));
    }
    if (!users) {
      ++pareto.without_users;
      continue;
    }
    ASSIGN_OR_RETURN(const double devices, DevicesOf(run, keys.devices));
    pareto.points.push_back({*tokens / *users, *tokens / devices, LabelOf(keys.labels, devices, run)});
  }
  std::stable_sort(pareto.points.begin(), pareto.points.end(), [](const ParetoPoint& a, const ParetoPoint& b) {
    return std::pair(a.tokens_per_user, a.tokens_per_device) > std::pair(b.tokens_per_user, b.tokens_per_device);
  });
  double best = -std::numeric_limits<double>::infinity();
  for (ParetoPoint& point : pareto.points) {
    point.on_frontier = point.tokens_per_device >= best;
    if (!point.on_frontier) continue;
    best = point.tokens_per_device;
    ++pareto.frontier_size;
  }
  return pareto;
}

std::string RenderPareto(const Pareto& pareto) {
  double most_x = 0, most_y = 0;
  std::vector<Point> frontier;
  for (const ParetoPoint& point : pareto.points) {
    most_x = std::max(most_x, point.tokens_per_user);
    most_y = std::max(most_y, point.tokens_per_device);
    if (point.on_frontier) frontier.emplace_back(point.tokens_per_user, point.tokens_per_device);
  }
  SvgChart chart(kPlace, "Tokens for one user against tokens of one device",
                 {.label = "output tokens a second for each user", .max = most_x * 1.1},
                 {.label = "output tokens a second of each device", .max = most_y * 1.1});
  chart.Line(frontier, kFrontier);
  for (const ParetoPoint& point : pareto.points) {
    const Point at{point.tokens_per_user, point.tokens_per_device};
    chart.Dot(at, point.on_frontier ? kFrontier : kAll);
    if (point.on_frontier) chart.Text(at, point.label);
  }
  chart.Legend("all runs", kAll);
  chart.Legend("no run gives more of both", kFrontier);
  return SvgDocument(1300, 690, "Pareto frontier",
                     fmt::format("{} runs, {} on the frontier", pareto.points.size(), pareto.frontier_size),
                     chart.elements());
}

}  // namespace tiercel::bench
