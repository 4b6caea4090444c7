// tiercel bench sweep plot and plot_pareto: pictures of what a sweep has measured.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "api/json_reader.h"
#include "bench/parameter_sweep.h"
#include "bench/pareto.h"
#include "bench/sweep_figure.h"
#include "checkpoint/model_folder.h"
#include "tools/bench_commands.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/text_file.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;
using api::Json;
using bench::SvgChart;

constexpr CommandHelp kPlotHelp = {
    "tiercel bench sweep plot OUTPUT_DIR [options]",
    "Draws one result over another for all runs that a sweep has left below OUTPUT_DIR. Flags are those of `vllm bench sweep "
    "plot`; pictures are SVG.",
    "positional arguments:\n  OUTPUT_DIR   a folder with summary.json in it or below it"};
constexpr CommandHelp kParetoHelp = {
    "tiercel bench sweep plot_pareto OUTPUT_DIR [options]",
    "Draws output tokens a second of each device over those of each user, for all runs that a sweep has left below "
    "OUTPUT_DIR, and the runs of which no other gives more of both. Flags are those of `vllm bench sweep plot_pareto`; the "
    "picture is SVG.",
    "positional arguments:\n  OUTPUT_DIR   a folder with summary.json in it or below it"};

// All runs of all summaries in the folder and below it, by path.
Expected<bench::Runs> ReadRuns(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().filename() == "summary.json") paths.push_back(at->path());
  }
  if (error) return Unexpected(InvalidArgument("{}: {}", folder.string(), error.message()));
  std::sort(paths.begin(), paths.end());
  bench::Runs runs;
  for (const fs::path& path : paths) {
    const auto text = checkpoint::ReadSmallFile(path.string());
    if (!text) return Unexpected(InvalidArgument("{}", text.error().message()));
    auto json = api::ParseJson(*text);
    Json::Array* list = json ? json->array() : nullptr;
    if (list == nullptr || !std::all_of(list->begin(), list->end(), [](const Json& run) { return run.object() != nullptr; })) {
      return Unexpected(InvalidArgument("{}: found no JSON list of objects, expected a sweep's runs", path.string()));
    }
    std::move(list->begin(), list->end(), std::back_inserter(runs));
  }
  if (runs.empty()) {
    return Unexpected(InvalidArgument("{}: found no runs, expected the folder of `bench sweep serve`", folder.string()));
  }
  return runs;
}

SvgChart::Scale ScaleOf(const std::string& name) {
  return name == "log" ? SvgChart::Scale::kLog : name == "sqrt" ? SvgChart::Scale::kSqrt : SvgChart::Scale::kLinear;
}

std::string GroupRepr(const bench::RunGroup& group) {
  Json::Object object;
  for (const auto& [key, value] : group) object.push_back({key, Json(value)});
  return bench::PythonStr(Json(std::move(object)));
}

void SayFigure(const bench::RunGroup& group, const std::string& grid, const fs::path& path) {
  std::printf("[BEGIN FIGURE]\nGroup: %s\n%sOutput file: %s\n", GroupRepr(group).c_str(), grid.c_str(), path.c_str());
}

Status WriteFigure(const fs::path& path, const std::string& svg) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  return WriteText(path.string(), svg);
}

Status Plot(const ParsedOptions& options, const fs::path& folder) {
  bench::SweepFigure figure;
  figure.row_by = bench::ParseNames(options.String("row-by"));
  figure.col_by = bench::ParseNames(options.String("col-by"));
  figure.curve_by = bench::ParseNames(options.String("curve-by"));
  figure.var_x = options.String("var-x");
  figure.var_y = options.String("var-y");
  ASSIGN_OR_RETURN(figure.filters, bench::ParseFilters(options.String("filter-by")));
  ASSIGN_OR_RETURN(figure.bins, bench::ParseBins(options.String("bin-by")));
  figure.scale_x = ScaleOf(options.String("scale-x"));
  figure.scale_y = ScaleOf(options.String("scale-y"));
  const std::vector<std::string> fig_by = bench::ParseNames(options.String("fig-by"));
  ASSIGN_OR_RETURN(const bench::Runs runs, ReadRuns(folder));
  RETURN_IF_ERROR(bench::CheckKeys("--fig-by", fig_by, runs));
  ASSIGN_OR_RETURN(const auto figures, bench::GroupBy(fig_by, runs));
  for (const auto& [group, figure_runs] : figures) {
    const std::string name = options.String("fig-name") + (group.empty() ? "" : "-") + bench::GroupText(group, "-");
    const fs::path path = folder / options.String("fig-dir") / bench::SafeFileName(name + ".svg");
    ASSIGN_OR_RETURN(const bench::FigureGrid grid, bench::GridOf(figure, figure_runs));
    SayFigure(group, fmt::format("Grid: {} rows x {} cols\n", grid.rows, grid.columns), path);
    if (!options.On("dry-run")) {
      ASSIGN_OR_RETURN(const std::string svg, bench::RenderSweepFigure(figure, group, figure_runs));
      RETURN_IF_ERROR(WriteFigure(path, svg));
    }
    std::puts("[END FIGURE]");
  }
  return OkStatus();
}

Status PlotPareto(const ParsedOptions& options, const fs::path& folder) {
  const bench::ParetoKeys keys{options.String("user-count-var"), options.String("gpu-count-var"),
                               bench::ParseNames(options.String("label-by"))};
  ASSIGN_OR_RETURN(const bench::Runs runs, ReadRuns(folder));
  ASSIGN_OR_RETURN(const bench::Pareto pareto, bench::FindPareto(keys, runs));
  if (pareto.without_users > 0) {
    std::printf("Skipped %zu runs without a user count (`max_concurrency` or `max_concurrent_requests`).\n",
                pareto.without_users);
  }
  if (pareto.points.empty()) return InvalidArgument("{}: found no run with a number of users", folder.string());
  const fs::path path = folder / "pareto" / "PARETO.svg";
  SayFigure({}, "", path);
  if (!options.On("dry-run")) {
    RETURN_IF_ERROR(WriteFigure(path, bench::RenderPareto(pareto)));
    std::printf("Plotted %zu points; Pareto frontier size: %zu.\n", pareto.points.size(), pareto.frontier_size);
  }
  std::puts("[END FIGURE]");
  return OkStatus();
}

int RunPlotCommand(const CommandText& text, std::string_view command,
                   Status (*plot)(const ParsedOptions& options, const fs::path& folder),
                   const std::vector<std::string>& words) {
  const auto options = ParseOptions(text.table, words, 1);
  if (!options) return UsageError(text.help, command, options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(text.table, text.help, options->help_topic()).c_str(), stdout);
    return kExitOk;
  }
  if (options->positional().empty()) {
    return UsageError(text.help, command, "the following arguments are required: OUTPUT_DIR");
  }
  const Status status = plot(*options, options->positional()[0]);
  if (status.ok()) return kExitOk;
  if (status.code() == StatusCode::kInvalidArgument) return UsageError(text.help, command, status.message());
  std::fprintf(stderr, "%.*s: %s\n", static_cast<int>(command.size()), command.data(), status.message().c_str());
  return kExitFailure;
}

}  // namespace

CommandText DescribeBenchSweepPlot() { return {kPlotHelp, options::BenchSweepPlotOptionTable()}; }
CommandText DescribeBenchSweepPareto() { return {kParetoHelp, options::BenchSweepParetoOptionTable()}; }

int RunBenchSweepPlot(const std::vector<std::string>& words) {
  return RunPlotCommand(DescribeBenchSweepPlot(), "tiercel bench sweep plot", &Plot, words);
}
int RunBenchSweepPareto(const std::vector<std::string>& words) {
  return RunPlotCommand(DescribeBenchSweepPareto(), "tiercel bench sweep plot_pareto", &PlotPareto, words);
}

}  // namespace tiercel::tools
