#include "bench/plot.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "bench/svg_chart.h"

namespace tiercel::bench {
namespace {

constexpr double kWidth = 1200, kHeight = 940, kLatencyHeight = 450;
constexpr size_t kMaxDots = 2000;  // of a latency's batches
constexpr size_t kMaxRows = 400;  // requests of the timeline: one pixel each
constexpr double kMaxSlices = 400;  // of the time, each a second or more

// Told apart in gray, too.
constexpr std::string_view kColors[] = {"#1b6ca8", "#d9822b", "#3d8c40"};
constexpr std::string_view kWaiting = "#c9c9c9", kPrompt = "#d9822b", kAnswer = "#1b6ca8";

constexpr SvgChart::Place kPercentiles{70, 90, 500, 300}, kOverTime{670, 90, 480, 300},
    kOverRequests{70, 500, 500, 380}, kTimeline{670, 500, 480, 380};

std::vector<const Outcome*> Completed(const LoadResult& load) {
  std::vector<const Outcome*> completed;
  for (const Outcome& outcome : load.outcomes) {
    if (outcome.success) completed.push_back(&outcome);
  }
  return completed;
}

double Largest(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

// Small values beside `most` on one axis would be flat: makes them larger by the power of ten that
// keeps them below it, and returns that.
double ScaleUp(std::vector<double>* values, double most) {
  const double largest = Largest(*values);
  if (largest <= 0 || most <= largest) return 1;
  const double scale = std::pow(10, std::floor(std::log10(most / largest)));
  for (double& value : *values) value *= scale;
  return scale;
}

std::string Times(std::string_view name, double scale) {
  return scale == 1 ? std::string(name) : fmt::format("{}, times {:g}", name, scale);
}

// Seconds of several kinds, on one axis: how many requests took no longer.
std::string Percentiles(std::span<const Outcome* const> completed) {
  std::vector<double> ttft, tpot, whole;
  for (const Outcome* outcome : completed) {
    ttft.push_back(outcome->ttft_s);
    whole.push_back(outcome->latency_s);
    if (!outcome->itls_s.empty()) {
      tpot.push_back((outcome->latency_s - outcome->ttft_s) /
                     static_cast<double>(outcome->itls_s.size()));
    }
  }
  const double most = std::max(Largest(ttft), Largest(whole));
  const double scale = ScaleUp(&tpot, most);
  SvgChart chart(kPercentiles, "How long requests took",
                 {.label = "percent of the requests took no longer", .max = 100},
                 {.label = "seconds", .max = most * 1.1});
  const auto draw = [&](std::vector<double>* values, const std::string& name,
                        std::string_view color) {
    std::sort(values->begin(), values->end());
    std::vector<Point> points;
    for (int percent = 0; !values->empty() && percent <= 100; ++percent) {
      points.emplace_back(percent, Percentile(*values, percent));
    }
    chart.Line(points, color);
    chart.Legend(name, color);
  };
  draw(&ttft, "to the first token", kColors[0]);
  draw(&whole, "whole request", kColors[1]);
  draw(&tpot, Times("per token", scale), kColors[2]);
  return chart.elements();
}

// What happened in each slice of the time.
struct Slices {
  double seconds = 1;           // of one
  std::vector<double> tokens;   // a second
  std::vector<double> running;  // requests, on average
};

Slices Slice(std::span<const Outcome* const> completed, double begin_s, double duration_s) {
  Slices slices;
  slices.seconds = std::max(1.0, duration_s / kMaxSlices);
  const auto count = static_cast<size_t>(std::max(1.0, std::ceil(duration_s / slices.seconds)));
  slices.tokens.resize(count);
  slices.running.resize(count);
  const auto index = [&](double time_s) {
    return static_cast<size_t>(
        std::clamp((time_s - begin_s) / slices.seconds, 0.0, static_cast<double>(count - 1)));
  };
  for (const Outcome* outcome : completed) {
    double time_s = outcome->start_s + outcome->ttft_s;
    // Chunks share the server's count of the tokens.
    const double tokens = static_cast<double>(outcome->output_tokens.value_or(
                              static_cast<int64_t>(outcome->itls_s.size()) + 1)) /
                          static_cast<double>(outcome->itls_s.size() + 1);
    slices.tokens[index(time_s)] += tokens / slices.seconds;
    for (const double itl_s : outcome->itls_s) {
      time_s += itl_s;
      slices.tokens[index(time_s)] += tokens / slices.seconds;
    }
    const double from = outcome->start_s - begin_s, to = from + outcome->latency_s;
    for (size_t i = index(outcome->start_s); i <= index(outcome->start_s + outcome->latency_s); ++i) {
      const double slice_from = static_cast<double>(i) * slices.seconds;
      const double overlap =
          std::min(to, slice_from + slices.seconds) - std::max(from, slice_from);
      slices.running[i] += std::max(0.0, overlap) / slices.seconds;
    }
  }
  return slices;
}

std::string OverTime(const Slices& slices, double duration_s) {
  std::vector<double> running = slices.running;
  const double scale = ScaleUp(&running, Largest(slices.tokens));
  const double most = std::max(Largest(slices.tokens), Largest(running));
  SvgChart chart(kOverTime, "Throughput and load over time", {.label = "seconds", .max = duration_s},
                 {.label = "tokens a second; requests", .max = most * 1.1});
  const auto draw = [&](const std::vector<double>& values, const std::string& name,
                        std::string_view color) {
    std::vector<Point> points;
    for (size_t i = 0; i < values.size(); ++i) {
      points.emplace_back((static_cast<double>(i) + 0.5) * slices.seconds, values[i]);
    }
    chart.Line(points, color);
    chart.Legend(name, color);
  };
  draw(slices.tokens, "output tokens a second", kColors[0]);
  draw(running, Times("running requests", scale), kColors[1]);
  return chart.elements();
}

std::string OverRequests(const Slices& slices) {
  SvgChart chart(kOverRequests, "Throughput over concurrency",
                 {.label = "requests that ran in a second", .max = Largest(slices.running) * 1.05},
                 {.label = "output tokens in that second", .max = Largest(slices.tokens) * 1.1});
  for (size_t i = 0; i < slices.tokens.size(); ++i) {
    chart.Dot({slices.running[i], slices.tokens[i]}, kColors[0]);
  }
  return chart.elements();
}

std::string Timeline(std::span<const Outcome* const> completed, double begin_s, double duration_s) {
  const size_t rows = std::min(completed.size(), kMaxRows);
  const bool all = rows == completed.size();
  const std::string title = all ? "When each request ran"
                                : fmt::format("When requests ran: {} of {}", rows, completed.size());
  SvgChart chart(kTimeline, title,
                 {.label = "seconds", .max = duration_s},
                 {.label = "requests, the first at the top", .max = static_cast<double>(rows),
                  .ticks = false});
  // Most of a row's height, so that rows stay apart where there is room.
  const double pixels =
      std::clamp(kTimeline.height / static_cast<double>(std::max<size_t>(rows, 1)) * 0.8, 0.8, 12.0);
  for (size_t row = 0; row < rows; ++row) {
    const Outcome& outcome = *completed[row * completed.size() / rows];
    const double start = outcome.start_s - begin_s, y = static_cast<double>(rows - row) - 0.5;
    chart.Bar(start - outcome.queue_s, start, y, pixels, kWaiting);
    chart.Bar(start, start + outcome.ttft_s, y, pixels, kPrompt);
    chart.Bar(start + outcome.ttft_s, start + outcome.latency_s, y, pixels, kAnswer);
  }
  chart.Legend("waits in the client", kWaiting);
  chart.Legend("to the first token", kPrompt);
  chart.Legend("answer", kAnswer);
  return chart.elements();
}

}  // namespace

std::string RenderServePlot(const ServeRun& run, const Metrics& metrics, const LoadResult& load) {
  const std::string line = fmt::format(
      "{} requests, {} failed, in {:.1f} s; rate {} a second, at most {} at a time; {:.1f} output tokens a second",
      metrics.completed, metrics.failed, load.duration_s, PythonFloat(run.traffic.request_rate),
      run.max_concurrency > 0 ? std::to_string(run.max_concurrency) : "any number",
      metrics.output_throughput);
  return RenderLoadPlot(run.label.value_or(run.backend) + ": " + run.model_id, line, load);
}

std::string RenderLoadPlot(std::string_view heading, std::string_view line, const LoadResult& load) {
  const std::vector<const Outcome*> completed = Completed(load);
  const Slices slices = Slice(completed, load.start_s, load.duration_s);
  return SvgDocument(kWidth, kHeight, heading, line,
                     Percentiles(completed) + OverTime(slices, load.duration_s) + OverRequests(slices) +
                         Timeline(completed, load.start_s, load.duration_s));
}

std::string RenderLatencyPlot(std::string_view heading, std::string_view line,
                              const std::vector<double>& seconds) {
  const double most = Largest(seconds);
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  SvgChart percentiles(kPercentiles, "How long batches took",
                       {.label = "percent of the batches took no longer", .max = 100},
                       {.label = "seconds", .max = most * 1.1});
  std::vector<Point> points;
  for (int percent = 0; !sorted.empty() && percent <= 100; ++percent) {
    points.emplace_back(percent, Percentile(sorted, percent));
  }
  percentiles.Line(points, kColors[0]);
  SvgChart in_order(kOverTime, "One after the other",
                    {.label = "batch", .max = static_cast<double>(seconds.size())},
                    {.label = "seconds", .max = most * 1.1});
  const size_t shown = std::min(seconds.size(), kMaxDots);
  for (size_t i = 0; i < shown; ++i) {
    const size_t batch = i * seconds.size() / shown;
    in_order.Dot({static_cast<double>(batch + 1), seconds[batch]}, kColors[0]);
  }
  return SvgDocument(kWidth, kLatencyHeight, heading, line, percentiles.elements() + in_order.elements());
}

}  // namespace tiercel::bench
