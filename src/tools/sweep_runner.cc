#include "tools/sweep_runner.h"

#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "api/json_reader.h"
#include "bench/sweep_summary.h"
#include "checkpoint/model_folder.h"
#include "tools/bench_data.h"
#include "tools/command.h"
#include "tools/sweep_server.h"
#include "tools/text_file.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;
using api::Json;

// As Python prints a list of strings, and a dictionary.
std::string Shown(const std::vector<std::string>& words) {
  Json::Array list;
  for (const std::string& word : words) list.push_back(Json(word));
  return bench::PythonStr(Json(std::move(list)));
}
std::string Shown(const bench::SweepItem& item) { return bench::PythonStr(Json(Json::Object(item))); }

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
    if (config_.workload) return true;  // what is there is known level by level
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
      if (!config_.workload && !bench::AreLinked(config_.links, serve, bench)) continue;
      SweepServer* running = server ? &*server : nullptr;
      RETURN_IF_ERROR(config_.workload ? Explore(running, serve, bench) : RunCombination(running, serve, bench));
    }
    server.reset();
    if (needed) Say("[END SERVER]");
    return OkStatus();
  }

  Status RunCombination(SweepServer* server, const bench::SweepItem& serve, const bench::SweepItem& bench) {
    ASSIGN_OR_RETURN(const Json::Array runs, Measure(server, serve, bench, FolderOf(serve, bench)));
    results_.insert(results_.end(), runs.begin(), runs.end());
    return OkStatus();
  }

  // One request at a time and all at once, then the levels between what these two came to.
  Status Explore(SweepServer* server, const bench::SweepItem& serve, const bench::SweepItem& bench) {
    const WorkloadSearch& search = *config_.workload;
    const std::string_view variable = bench::NameOf(search.variable);
    const auto text_of = [](const bench::SweepItem& item) {
      return item.empty() ? std::string("(None)") : bench::SweepText(item, ", ");
    };
    Say("[WL START]");
    Say("Serve parameters: " + text_of(serve));
    Say("Bench parameters: " + text_of(bench));
    Say(fmt::format("Number of workload iterations: {}", search.levels));
    ASSIGN_OR_RETURN(const int64_t prompts, bench::PromptCount(bench, config_.bench_command));
    Say(fmt::format("Dataset size: {}", prompts));
    const auto measure = [&](const bench::SweepItem& item, int64_t level) -> Expected<Json::Array> {
      const bench::SweepItem with_level = bench::WithParameter(item, variable, Json(level));
      if (!bench::AreLinked(config_.links, serve, with_level)) return Json::Array{};
      return Measure(server, serve, with_level,
                     config_.folder / bench::SweepFolder(serve, item, fmt::format("{}={}", variable, level)));
    };
    constexpr std::string_view kConcurrency = "max_concurrency";
    ASSIGN_OR_RETURN(const Json::Array serial, measure(bench::WithParameter(bench, kConcurrency, Json(int64_t{1})), 1));
    ASSIGN_OR_RETURN(const Json::Array batch, measure(bench::WithParameter(bench, kConcurrency, Json(prompts)), prompts));
    if (config_.dry_run) Say("Omitting intermediate Workload iterations.");
    Json::Array between;
    if (!serial.empty() && !batch.empty()) {
      ASSIGN_OR_RETURN(const double serial_level, bench::ReachedLevel(search.variable, serial));
      ASSIGN_OR_RETURN(const double batch_level, bench::ReachedLevel(search.variable, batch));
      const auto low = static_cast<int64_t>(std::ceil(serial_level)), high = static_cast<int64_t>(std::floor(batch_level));
      Say(fmt::format("Serial inference: {}={}", variable, low));
      Say(fmt::format("Batch inference: {}={}", variable, high));
      for (const int64_t level : bench::LevelsBetween(low, high, search.levels)) {
        Say(fmt::format("Exploring: {}={}", variable, level));
        ASSIGN_OR_RETURN(const Json::Array runs, measure(bench, level));
        between.insert(between.end(), runs.begin(), runs.end());
      }
    }
    for (const Json::Array* runs : std::initializer_list<const Json::Array*>{&serial, &between, &batch}) {
      results_.insert(results_.end(), runs->begin(), runs->end());
    }
    Say("[WL END]");
    return OkStatus();
  }

  // All runs of one combination, in its folder. None at a dry run, and where all failed that may.
  Expected<Json::Array> Measure(SweepServer* server, const bench::SweepItem& serve, const bench::SweepItem& bench,
                                const fs::path& folder) {
    if (config_.warmup_prompts > 0) {
      const bench::SweepItem warmup = bench::WithParameter(bench, "num_prompts", Json(config_.warmup_prompts));
      RETURN_IF_ERROR(RunOrRecord(server, serve, warmup, -1, folder / "warmup.json", nullptr));
    }
    Json::Array runs;
    for (int64_t run = 0; run < config_.num_runs; ++run) {
      RETURN_IF_ERROR(RunOrRecord(server, serve, bench, run, folder / fmt::format("run={}.json", run), &runs));
    }
    if (config_.dry_run) return runs;
    if (runs.empty()) {
      Say("[NO SUCCESSFUL MEASURED RUNS] leaving combination retryable");
      return runs;
    }
    RETURN_IF_ERROR(WriteJson((folder / "summary.json").string(), Json(Json::Array(runs)), /*append=*/false));
    return runs;
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
    const auto text = checkpoint::ReadSmallFile(path.string());
    if (!text) return InvalidArgument("{}", text.error().message());
    auto json = api::ParseJson(*text);
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

Status RunSweep(const SweepConfig& config, const std::atomic<bool>* stop) { return Sweep(config, stop).Run(); }

}  // namespace tiercel::tools
