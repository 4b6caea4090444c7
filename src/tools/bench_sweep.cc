// tiercel bench sweep: benchmarks of servers over combinations of parameters, as `vllm bench sweep` does.
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "api/json_reader.h"
#include "base/log.h"
#include "bench/parameter_sweep.h"
#include "bench/sweep_summary.h"
#include "model/model_folder.h"
#include "tools/bench_commands.h"
#include "tools/bench_data.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/interrupt.h"
#include "tools/sweep_server.h"
#include "tools/text_file.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;
using api::Json;

constexpr CommandHelp kHelp = {
    "tiercel bench sweep serve --serve-cmd COMMAND --bench-cmd COMMAND [options]",
    "Starts the server of --serve-cmd with each combination of --serve-params, runs --bench-cmd with each of "
    "--bench-params on it, and gathers the results. Flags, folders and files are those of `vllm bench sweep serve`.",
    ""};
constexpr const char* kCommand = "tiercel bench sweep serve";

constexpr Subcommand kSweeps[] = {
    {"serve", "Benchmark a server with many combinations of flags.", &RunBenchSweepServe, &DescribeBenchSweepServe},
};

struct SweepConfig {
  std::vector<std::string> serve_command, bench_command, after_command;
  std::vector<bench::SweepItem> serve_items, bench_items;
  bench::SweepLinks links;
  fs::path folder;  // of the experiment
  int64_t num_runs = 3, warmup_prompts = 0;
  double ready_timeout_s = 300;
  bool show = false, dry_run = false, continue_on_error = false;
};

void Say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

// As Python prints a list of strings, and a dictionary.
std::string Shown(const std::vector<std::string>& words) {
  Json::Array list;
  for (const std::string& word : words) list.push_back(Json(word));
  return bench::PythonStr(Json(std::move(list)));
}
std::string Shown(const bench::SweepItem& item) { return bench::PythonStr(Json(Json::Object(item))); }

std::string Timestamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y%m%d_%H%M%S", &parts);
  return text;
}

Expected<std::string> ReadText(const std::string& path) {
  auto text = model::ReadSmallFile(path);
  if (!text) return Unexpected(InvalidArgument("{}", text.error().message()));
  return *text;
}

Expected<std::vector<bench::SweepItem>> ReadItems(const std::string& path) {
  if (path.empty()) return std::vector<bench::SweepItem>(1);  // the command as it is
  ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  return bench::ParseParameterSweep(path, text);
}

Expected<SweepConfig> MakeSweepConfig(const ParsedOptions& options) {
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

class Sweep {
 public:
  Sweep(const SweepConfig& config, const std::atomic<bool>* stop) : config_(config), stop_(stop) {}

  Status Run() {
    for (const bench::SweepItem& serve : config_.serve_items) {
      const Status status = RunServer(serve);
      if (status.ok()) continue;
      if (!MayContinue(status)) return status;
      std::string name = bench::SweepFolder(serve, {});
      if (name.empty()) name = "SERVE-default";
      RETURN_IF_ERROR(WriteFailure(config_.folder / (name + "-failure.json"), status, {{"serve_overrides", Json(Json::Object(serve))}}));
      Say(fmt::format("[FAILED SERVER COMBINATION] {}: {}", name, status.message()));
    }
    if (config_.dry_run) return OkStatus();
    std::error_code error;
    fs::create_directories(config_.folder, error);
    return WriteText((config_.folder / "summary.csv").string(), bench::SummaryCsv(results_));
  }

 private:
  bool MayContinue(const Status& status) const {
    return config_.continue_on_error && status.code() != StatusCode::kCancelled;
  }

  fs::path FolderOf(const bench::SweepItem& serve, const bench::SweepItem& bench) const {
    const std::string name = bench::SweepFolder(serve, bench);
    return name.empty() ? config_.folder : config_.folder / name;
  }

  bool NeedsServer(const bench::SweepItem& serve) const {
    for (const bench::SweepItem& bench : config_.bench_items) {
      if (!fs::exists(FolderOf(serve, bench) / "summary.json")) return true;
    }
    return false;
  }

  Status RunServer(const bench::SweepItem& serve) {
    std::optional<SweepServer> server;
    const bool needed = NeedsServer(serve);
    if (needed) {
      const std::vector<std::string> command = bench::ApplyParameters(serve, config_.serve_command);
      Say("[BEGIN SERVER]");
      Say("Server overrides: " + Shown(serve));
      Say("Server command: " + Shown(command));
      if (!config_.dry_run) {
        ASSIGN_OR_RETURN(SweepServer started, SweepServer::Start(command, config_.show));
        server.emplace(std::move(started));
        RETURN_IF_ERROR(server->WaitUntilReady(config_.ready_timeout_s, stop_));
      }
    }
    for (const bench::SweepItem& bench : config_.bench_items) {
      if (!bench::AreLinked(config_.links, serve, bench)) continue;
      RETURN_IF_ERROR(RunCombination(server ? &*server : nullptr, serve, bench));
    }
    server.reset();
    if (needed) Say("[END SERVER]");
    return OkStatus();
  }

  Status RunCombination(SweepServer* server, const bench::SweepItem& serve, const bench::SweepItem& bench) {
    const fs::path folder = FolderOf(serve, bench);
    if (config_.warmup_prompts > 0) {
      Json item{Json::Object(bench)};
      item.Set("num_prompts", Json(config_.warmup_prompts));
      RETURN_IF_ERROR(RunOrRecord(server, serve, *item.object(), -1, folder / "warmup.json", nullptr));
    }
    Json::Array runs;
    for (int64_t run = 0; run < config_.num_runs; ++run) {
      RETURN_IF_ERROR(RunOrRecord(server, serve, bench, run, folder / fmt::format("run={}.json", run), &runs));
    }
    if (config_.dry_run) return OkStatus();
    if (runs.empty()) {
      Say("[NO SUCCESSFUL MEASURED RUNS] leaving combination retryable");
      return OkStatus();
    }
    results_.insert(results_.end(), runs.begin(), runs.end());
    return WriteJson((folder / "summary.json").string(), Json(std::move(runs)), /*append=*/false);
  }

  // One run, whose results go behind those in `runs`, if there is a place for them. With --continue-on-error what was
  // wrong goes into a file.
  Status RunOrRecord(SweepServer* server, const bench::SweepItem& serve, const bench::SweepItem& bench, int64_t run,
                     const fs::path& path, Json::Array* runs) {
    std::optional<Json> data;
    const Status status = RunBenchmark(server, serve, bench, run, path, &data);
    if (status.ok()) {
      if (data && runs != nullptr) runs->push_back(std::move(*data));
      return OkStatus();
    }
    if (!MayContinue(status)) return status;
    fs::path failure = path;
    failure.replace_extension(".failure.json");
    Say(fmt::format("[FAILED BENCHMARK] run={}: {}", run, status.message()));
    Say("Failure details: " + failure.string());
    return WriteFailure(failure, status,
                        {{"run_number", Json(run)},
                         {"serve_overrides", Json(Json::Object(serve))},
                         {"bench_overrides", Json(Json::Object(bench))}});
  }

  static Status WriteFailure(const fs::path& path, const Status& status, Json::Object what) {
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    what.push_back({"error", Json(status.message())});
    return WriteJson(path.string(), Json(std::move(what)), /*append=*/false);
  }

  Status RunBenchmark(SweepServer* server, const bench::SweepItem& serve, const bench::SweepItem& bench, int64_t run,
                      const fs::path& path, std::optional<Json>* data) {
    std::vector<std::string> command = bench::ApplyParameters(bench, config_.bench_command);
    command.insert(command.end(), {"--percentile-metrics", "ttft,tpot,itl,e2el", "--save-result", "--result-dir",
                                   path.parent_path().string(), "--result-filename", path.filename().string()});
    Say("[BEGIN BENCHMARK]");
    Say("Benchmark overrides: " + Shown(bench));
    Say(fmt::format("Run Number: {}", run));
    Say("Benchmark command: " + Shown(command));
    Say("Output file: " + path.string());
    const bool there = fs::exists(path);
    if (there) {
      Say("Found existing results.\n[SKIPPED BENCHMARK]");
    } else if (config_.dry_run) {
      Say("[END BENCHMARK]");
      return OkStatus();
    } else if (server == nullptr) {
      return FailedPrecondition("{}: found nothing, expected results, as summary.json beside it says", path.string());
    } else {
      std::error_code error;
      fs::create_directories(path.parent_path(), error);
      RETURN_IF_ERROR(RunCommand(command, config_.show, stop_));
      RETURN_IF_ERROR(config_.after_command.empty() ? server->ResetCaches()
                                                    : RunCommand(config_.after_command, config_.show, stop_));
    }
    ASSIGN_OR_RETURN(const std::string text, ReadText(path.string()));
    auto json = api::ParseJson(text);
    if (!json || json->object() == nullptr) {
      return FailedPrecondition("{}: found no JSON object, expected the results of {}", path.string(), command[0]);
    }
    json->Set("run_number", Json(run));
    for (const bench::SweepItem* item : {&serve, &bench}) {
      for (const Json::Member& member : *item) json->Set(member.key, member.value);
    }
    *data = std::move(*json);
    if (there) return OkStatus();
    RETURN_IF_ERROR(WriteJson(path.string(), **data, /*append=*/false));
    Say("[END BENCHMARK]");
    return OkStatus();
  }

  const SweepConfig& config_;
  const std::atomic<bool>* const stop_;
  std::vector<Json> results_;
};

}  // namespace

std::span<const Subcommand> SweepSubcommands() { return kSweeps; }

CommandText DescribeBenchSweepServe() { return {kHelp, options::BenchSweepServeOptionTable()}; }

int RunBenchSweep(const std::vector<std::string>& words) { return RunPart("tiercel bench sweep", kSweeps, words); }

int RunBenchSweepServe(const std::vector<std::string>& words) {
  const OptionTable& table = options::BenchSweepServeOptionTable();
  const auto options = ParseOptions(table, words, 0);
  if (!options) return UsageError(kHelp, kCommand, options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(table, kHelp, options->help_topic()).c_str(), stdout);
    return kExitOk;
  }
  const auto config = MakeSweepConfig(*options);
  if (!config) return UsageError(kHelp, kCommand, config.error().message());
  InitLogging(LogLevel::err);
  Interrupt interrupt;
  const Status status = Sweep(*config, interrupt.Watch()).Run();
  if (status.ok()) {
    Say(fmt::format("Experiment {} saved at: {}", config->dry_run ? "will be" : "has been", config->folder.string()));
    return kExitOk;
  }
  std::fprintf(stderr, "%s: %s; --resume with --experiment-name %s continues\n", kCommand, status.message().c_str(),
               config->folder.filename().c_str());
  return interrupt.stopped() ? Interrupt::kExitCode : kExitFailure;
}

}  // namespace tiercel::tools
