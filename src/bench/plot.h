// A picture of a load, as one SVG document without scripts, fonts or links to anything.
#pragma once

#include <string>

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

}  // namespace tiercel::bench
