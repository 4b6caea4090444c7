// tiercel bench sweep: benchmarks of servers over combinations of parameters, as `vllm bench sweep` does.
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "bench/parameter_sweep.h"
#include "checkpoint/model_folder.h"
#include "tools/bench_commands.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/interrupt.h"
#include "tools/sweep_runner.h"
#include "tools/sweep_server.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;

constexpr CommandHelp kSweepServeHelp = {
    "tiercel bench sweep serve --serve-cmd COMMAND --bench-cmd COMMAND [options]",
    "Starts the server of --serve-cmd with each combination of --serve-params, runs --bench-cmd with each of "
    "--bench-params on it, and gathers the results. Flags, folders and files are those of `vllm bench sweep serve`.",
    ""};
constexpr CommandHelp kSweepWorkloadHelp = {
    "tiercel bench sweep serve_workload --serve-cmd COMMAND --bench-cmd COMMAND [options]",
    "As `sweep serve`, but each combination is measured with one request at a time, with all at once, and at levels of load "
    "between what these two come to. Flags, folders and files are those of `vllm bench sweep serve_workload`.",
    ""};

constexpr Subcommand kSweeps[] = {
    {"serve", "Benchmark a server with many combinations of flags.", &RunBenchSweepServe, &DescribeBenchSweepServe},
    {"serve_workload", "Benchmark it at many levels of load.", &RunBenchSweepWorkload, &DescribeBenchSweepWorkload},
    {"plot", "Draw curves from the results of a sweep.", &RunBenchSweepPlot, &DescribeBenchSweepPlot},
    {"plot_pareto", "Draw throughput against speed for each user.", &RunBenchSweepPareto, &DescribeBenchSweepPareto},
};

std::string Timestamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y%m%d_%H%M%S", &parts);
  return text;
}

Expected<std::vector<bench::SweepItem>> ReadItems(const std::string& path) {
  if (path.empty()) return std::vector<bench::SweepItem>(1);  // the command as it is
  const auto text = checkpoint::ReadSmallFile(path);
  if (!text) return Unexpected(InvalidArgument("{}", text.error().message()));
  return bench::ParseParameterSweep(path, *text);
}

Expected<SweepConfig> MakeSweepConfig(const ParsedOptions& options, bool workload) {
  SweepConfig config;
  for (const auto& [name, command] : {std::pair{"serve-cmd", &config.serve_command},
                                      std::pair{"bench-cmd", &config.bench_command},
                                      std::pair{"after-bench-cmd", &config.after_command}}) {
    if (!options.Given(name)) {
      if (command == &config.after_command) continue;
      return Unexpected(InvalidArgument("the following arguments are required: --{}", name));
    }
    ASSIGN_OR_RETURN(*command, bench::SplitCommand(fmt::format("--{}", name), options.String(name)));
  }
  if (config.after_command.empty() && !SweepServer::CanResetCaches(config.serve_command)) {
    return Unexpected(InvalidArgument(
        "argument --after-bench-cmd: found none, expected a command that resets the caches of {}; only those of vllm and "
        "tiercel are known",
        config.serve_command[0]));
  }
  ASSIGN_OR_RETURN(config.serve_items, ReadItems(options.String("serve-params")));
  ASSIGN_OR_RETURN(config.bench_items, ReadItems(options.String("bench-params")));
  ASSIGN_OR_RETURN(config.links, bench::ParseLinks(options.String("link-vars")));
  if (workload) {
    WorkloadSearch search;
    if (options.String("workload-var") == bench::NameOf(bench::WorkloadVariable::kMaxConcurrency)) {
      search.variable = bench::WorkloadVariable::kMaxConcurrency;
    }
    ASSIGN_OR_RETURN(search.levels, options.IntBetween("workload-iters", 2, 1000));
    for (const bench::SweepItem& item : config.bench_items) {
      if (bench::FindParameter(item, bench::NameOf(search.variable)) == nullptr) continue;
      return Unexpected(InvalidArgument("argument --bench-params: found {}, expected none, as its levels are what is explored",
                                        bench::NameOf(search.variable)));
    }
    config.workload = search;
  }
  const std::string name = options.String("experiment-name");
  config.folder = fs::path(options.String("output-dir")) / (name.empty() ? Timestamp() : name);
  ASSIGN_OR_RETURN(config.num_runs, options.IntBetween("num-runs", 1, 1'000'000));
  ASSIGN_OR_RETURN(config.warmup_prompts, options.IntBetween("warmup-num-prompts", 0, 1'000'000));
  ASSIGN_OR_RETURN(const int64_t timeout, options.IntBetween("server-ready-timeout", 1, 1'000'000));
  config.ready_timeout_s = static_cast<double>(timeout);
  config.show = options.On("show-stdout");
  config.dry_run = options.On("dry-run");
  config.continue_on_error = options.On("continue-on-error");
  std::error_code error;
  const bool exists = fs::exists(config.folder, error);
  if (options.On("resume") && !exists) {
    return Unexpected(InvalidArgument("argument --resume: {}: found nothing, expected the folder of an earlier sweep",
                                      config.folder.string()));
  }
  if (!options.On("resume") && exists) {
    return Unexpected(InvalidArgument("{}: is there already; continue it with --resume, or give another "
                                      "--experiment-name", config.folder.string()));
  }
  return config;
}

int RunSweepCommand(const CommandText& text, std::string_view command, bool workload, const std::vector<std::string>& words) {
  const auto options = ParseOptions(text.table, words, 0);
  if (!options) return UsageError(text.help, command, options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(text.table, text.help, options->help_topic()).c_str(), stdout);
    return kExitOk;
  }
  const auto config = MakeSweepConfig(*options, workload);
  if (!config) return UsageError(text.help, command, config.error().message());
  InitLogging(LogLevel::err);
  Interrupt interrupt;
  const Status status = RunSweep(*config, interrupt.Watch());
  if (status.ok()) {
    std::printf("Experiment %s saved at: %s\n", config->dry_run ? "will be" : "has been", config->folder.c_str());
    return kExitOk;
  }
  std::fprintf(stderr, "%.*s: %s; --resume with --experiment-name %s continues\n", static_cast<int>(command.size()),
               command.data(), status.message().c_str(), config->folder.filename().c_str());
  return interrupt.stopped() ? Interrupt::kExitCode : kExitFailure;
}

}  // namespace

std::span<const Subcommand> SweepSubcommands() { return kSweeps; }

CommandText DescribeBenchSweepServe() { return {kSweepServeHelp, options::BenchSweepServeOptionTable()}; }
CommandText DescribeBenchSweepWorkload() { return {kSweepWorkloadHelp, options::BenchSweepWorkloadOptionTable()}; }

int RunBenchSweep(const std::vector<std::string>& words) { return RunPart("tiercel bench sweep", kSweeps, words); }

int RunBenchSweepServe(const std::vector<std::string>& words) {
  return RunSweepCommand(DescribeBenchSweepServe(), "tiercel bench sweep serve", /*workload=*/false, words);
}
int RunBenchSweepWorkload(const std::vector<std::string>& words) {
  return RunSweepCommand(DescribeBenchSweepWorkload(), "tiercel bench sweep serve_workload", /*workload=*/true, words);
}

}  // namespace tiercel::tools
