// Pictures of what the benchmarks measured, each one SVG document.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bench/load.h"
#include "bench/metrics.h"
#include "bench/report.h"

namespace tiercel::bench {

// Four charts: what percentage of the completed requests took how long (TTFT, TPOT, whole request), output
// tokens a second and running requests over time, tokens a second over how many requests ran at
// that time, and when each request waited, read its prompt and was answered. Its size is bounded,
// whatever the load's: curves have some hundred points, and of more requests than rows evenly
// chosen ones are shown.
std::string RenderServePlot(const ServeRun& run, const Metrics& metrics, const LoadResult& load);
// The same under another heading, with a line of text below it.
std::string RenderLoadPlot(std::string_view heading, std::string_view line, const LoadResult& load);

// Seconds of batches, in their order: as percentiles, and one after the other (of very many, evenly chosen ones).
std::string RenderLatencyPlot(std::string_view heading, std::string_view line,
                              const std::vector<double>& seconds);

}  // namespace tiercel::bench
