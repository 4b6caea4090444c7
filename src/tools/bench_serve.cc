// tiercel bench serve: loads an OpenAI server and says how fast it was, as `vllm bench serve` does.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <thread>

#include "api/json_reader.h"
#include "base/clock.h"
#include "base/function_ref.h"
#include "base/log.h"
#include "bench/answer_reader.h"
#include "bench/load.h"
#include "bench/plot.h"
#include "server/server.h"
#include "serving/model_path.h"
#include "serving/progress_bar.h"
#include "tools/bench_commands.h"
#include "tools/bench_data.h"
#include "tools/bench_serve_config.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/interrupt.h"
#include "tools/text_file.h"

namespace tiercel::tools {
namespace {

constexpr CommandHelp kBenchServeHelp = {
    "tiercel bench serve [options]",
    "Sends requests to a running OpenAI server and shows what its answers took. Flags, table and "
    "files are those of `vllm bench serve`.",
    ""};

void Warn(const std::string& line) { std::fprintf(stderr, "WARNING: %s\n", line.c_str()); }

// {'port': 8113, …}; headers may hold keys.
void SayArguments(const ParsedOptions& options) {
  std::string text;
  for (const OptionSpec* spec : options.NonDefault()) {
    std::string name(spec->name());
    std::replace(name.begin(), name.end(), '-', '_');
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", name,
                        name == "header" ? "'***'" : options.Repr(*spec));
  }
  Say(fmt::format("Namespace({})", text));
}

// The first model of the server: its name there, and where it was loaded from, if the server says.
Status AskForModel(BenchServeConfig* config) {
  Say("Model not specified, fetching first model from server...");
  net::HttpClientOptions http = config->http;
  http.stall_timeout_s = 60;
  const std::string url = config->base_url + "/v1/models";
  ASSIGN_OR_RETURN(const net::HttpResponse response,
                   net::HttpClient(http).Get(url, config->target.headers));
  if (response.status != 200) {
    return Unavailable("{}: HTTP {}: {}", url, response.status, bench::ErrorText(response.body));
  }
  const auto body = api::ParseJson(response.body);
  const api::Json* data = body ? body->Find("data") : nullptr;
  const std::string* id = data != nullptr && data->array() != nullptr && !data->array()->empty()
                              ? data->array()->front().FindString("id")
                              : nullptr;
  if (id == nullptr) return Unavailable("{}: names no model; give one with --model", url);
  const std::string* root = data->array()->front().FindString("root");
  config->model = root != nullptr ? *root : *id;
  if (config->target.model.empty()) config->target.model = *id;
  Say(fmt::format("First model name: {}, first model id: {}", *id, config->model));
  return OkStatus();
}

Expected<bench::TextTools> LoadTextTools(const BenchServeConfig& config, const Environ& environ) {
  const std::string& name = config.tokenizer.empty() ? config.model : config.tokenizer;
  hub::HubOptions hub;
  hub.with_weights = false;
  const auto path = serving::FindModel(name, hub, environ);
  if (!path) {
    return Unexpected(Status(
        path.error().code(),
        fmt::format("{} (where the tokenizer is says --tokenizer)", path.error().message())));
  }
  ASSIGN_OR_RETURN(const serving::LoadedText text, serving::LoadText(*path));
  return MakeTextTools(text, config.template_kwargs);
}

class ServeBenchmark {
 public:
  ServeBenchmark(BenchServeConfig config, std::vector<bench::BenchRequest> requests,
                 Interrupt* interrupt, net::AsyncHttpClient* client)
      : config_(std::move(config)),
        requests_(std::move(requests)),
        interrupt_(interrupt),
        client_(client) {}

  // `begin` is called between the warm-up and the run that counts.
  Expected<bench::LoadResult> Run(FunctionRef<void()> begin) {
    stop_ = interrupt_->Watch();
    Say("Starting initial single prompt test run...");
    if (config_.ready_timeout_s > 0) {
      RETURN_IF_ERROR(WaitUntilReady());
      Say("Initial test run completed.");
    } else {
      Say("Skipping endpoint ready check.");
    }
    if (config_.num_warmups > 0) {
      Say(fmt::format("Warming up with {} requests...", config_.num_warmups));
      // Requests that fail here fail again in the run.
      if (auto warmup = Repeat(config_.num_warmups, "Warmup"); !warmup) return warmup;
      Say("Warmup run completed.");
    }
    begin();
    Say("Starting main benchmark run...");
    SayTraffic();
    bench::Load load;
    load.arrivals_s =
        bench::ArrivalTimes(config_.run.traffic, std::ssize(requests_), config_.data_set.seed);
    load.make = [&](size_t index) {
      return bench::MakeSpec(config_.target, requests_[index],
                             fmt::format("{}{}", config_.request_id_prefix, index));
    };
    load.prompt_tokens = [&](size_t index) { return requests_[index].prompt_tokens; };
    return RunWithBar(std::move(load), "Requests", config_.progress_bar);
  }

 private:
  Expected<bench::LoadResult> RunWithBar(bench::Load load, const char* label, bool show) {
    const auto total = std::ssize(load.arrivals_s);
    serving::ProgressBar bar(label, show, serving::ProgressBar::Unit::kRequests);
    load.max_concurrency = config_.run.max_concurrency;
    load.stop = stop_;
    load.on_end = [&bar, total](int64_t ended) { bar.Update(ended, total); };
    return bench::RunLoad(load, client_, clock_);
  }

  // The first request, so often at once.
  Expected<bench::LoadResult> Repeat(int64_t count, const char* label) {
    bench::Load load;
    load.arrivals_s.resize(static_cast<size_t>(count));
    load.make = [&](size_t) { return bench::MakeSpec(config_.target, requests_[0], ""); };
    load.prompt_tokens = [&](size_t) { return requests_[0].prompt_tokens; };
    return RunWithBar(std::move(load), label, config_.progress_bar && count > 1);
  }

  Status WaitUntilReady() {
    constexpr double kInterval = 1;
    const double begin = clock_.Now();
    while (true) {
      ASSIGN_OR_RETURN(const bench::LoadResult result, Repeat(1, "Ready check"));
      if (result.outcomes.empty()) return Status(StatusCode::kCancelled, "stopped");
      if (result.outcomes[0].success) return OkStatus();
      if (clock_.Now() - begin + kInterval > config_.ready_timeout_s) {
        return Unavailable("{}: the first request has failed for {} s: {}", config_.target.url,
                           config_.ready_timeout_s, result.outcomes[0].error);
      }
      std::this_thread::sleep_for(Seconds(kInterval));
    }
  }

  void SayTraffic() const {
    const bench::Traffic& traffic = config_.run.traffic;
    if (traffic.ramp_up) {
      Say(fmt::format("Traffic ramp-up strategy: {}.",
                      traffic.ramp_up->exponential ? "exponential" : "linear"));
      Say(fmt::format("Will increase RPS from {} to {} RPS over the duration of the benchmark.",
                      traffic.ramp_up->start_rps, traffic.ramp_up->end_rps));
    } else {
      Say("Traffic request rate: " + bench::PythonFloat(traffic.request_rate));
    }
    Say(fmt::format("Burstiness factor: {} ({})", bench::PythonFloat(traffic.burstiness),
                    traffic.burstiness == 1 ? "Poisson process" : "Gamma distribution"));
    Say(fmt::format(
        "Maximum request concurrency: {}",
        config_.run.max_concurrency > 0 ? std::to_string(config_.run.max_concurrency) : "None"));
  }

  const BenchServeConfig config_;
  const std::vector<bench::BenchRequest> requests_;
  Interrupt* const interrupt_;
  const std::atomic<bool>* stop_ = nullptr;
  net::AsyncHttpClient* const client_;
  const SteadyClock clock_;
};

// As vLLM shows them: the first ten.
void SayErrors(const bench::LoadResult& load) {
  constexpr int kMost = 10;
  int shown = 0;
  for (const bench::Outcome& outcome : load.outcomes) {
    if (outcome.success || shown == kMost) continue;
    if (shown == 0) {
      Say(fmt::format("Failed requests during benchmark run detected (capping to {}):", kMost));
    }
    Say(fmt::format("Error {}: {}", shown++, outcome.error));
  }
  if (load.unfinished > 0) {
    Say(fmt::format("Interrupted: {} requests have not ended and are not counted.",
                    load.unfinished));
  }
}

std::string LocalDate() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &parts);
  return text;
}

double UnixTime() { return Seconds(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string ResultPath(const BenchServeConfig& config) {
  const std::string name =
      config.result_filename.empty() ? bench::ResultFileName(config.run) : config.result_filename;
  return (std::filesystem::path(config.result_dir) / name).string();
}

// What the server has counted of guesses; a server without metrics makes none.
std::optional<bench::DraftCounts> AskForDrafts(const BenchServeConfig& config) {
  net::HttpClientOptions http = config.http;
  http.stall_timeout_s = 10;
  const auto response = net::HttpClient(http).Get(config.base_url + "/metrics", config.target.headers);
  if (!response || response->status != 200) return std::nullopt;
  return bench::ReadDraftCounts(response->body);
}

Expected<int> BenchServe(BenchServeConfig config, const Environ& environ, Interrupt* interrupt) {
  if (config.model.empty()) RETURN_IF_ERROR(AskForModel(&config));
  ASSIGN_OR_RETURN(const bench::TextTools tools, LoadTextTools(config, environ));
  ASSIGN_OR_RETURN(bench::DataSet set, bench::MakeDataSet(config.data_set, tools));
  for (const std::string& warning : set.warnings) Warn(warning);
  config.run.model_id = config.model;
  config.run.tokenizer_id = config.tokenizer.empty() ? config.model : config.tokenizer;
  config.run.date = LocalDate();
  if (config.save) RETURN_IF_ERROR(PrepareFile(ResultPath(config)));
  if (!config.plot.empty()) RETURN_IF_ERROR(PrepareFile(config.plot));
  config.metrics.count_tokens = [&](std::string_view text) {
    const auto tokens = tools.tokenizer->Encode(text, /*add_special=*/false);
    return tokens ? static_cast<int64_t>(tokens->size()) : int64_t{1};
  };

  ASSIGN_OR_RETURN(const auto client, net::AsyncHttpClient::Create(config.http));
  server::RaiseFileLimit();
  std::optional<bench::DraftCounts> before;
  ASSIGN_OR_RETURN(const bench::LoadResult load,
                   ServeBenchmark(config, std::move(set.requests), interrupt, client.get())
                       .Run([&] { before = AskForDrafts(config); }));
  config.run.start_unix_s = UnixTime() - load.duration_s;
  bench::Metrics metrics = bench::CalculateMetrics(load.outcomes, load.duration_s, config.metrics);
  if (const auto after = before ? AskForDrafts(config) : std::nullopt) metrics.drafts = bench::Since(*before, *after);
  SayErrors(load);
  std::fputs(bench::RenderTable(config.run, metrics, load.duration_s).c_str(), stdout);
  if (config.save) {
    RETURN_IF_ERROR(WriteJson(ResultPath(config),
                              bench::ResultJson(config.run, metrics, load, config.detailed),
                              config.append));
  }
  if (!config.plot.empty()) {
    RETURN_IF_ERROR(WriteText(config.plot, bench::RenderServePlot(config.run, metrics, load)));
  }
  if (interrupt->stopped()) return Interrupt::kExitCode;
  return metrics.completed > 0 ? kExitOk : kExitFailure;
}

}  // namespace

CommandText DescribeBenchServe() { return {kBenchServeHelp, options::BenchServeOptionTable()}; }

int RunBenchServe(const std::vector<std::string>& words) {
  const OptionTable& table = options::BenchServeOptionTable();
  const auto options = ParseOptions(table, words, 0);
  if (!options) return UsageError(kBenchServeHelp, "tiercel bench serve", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(table, kBenchServeHelp, options->help_topic()).c_str(), stdout);
    return kExitOk;
  }
  const Environ environ = ReadEnviron();
  auto config = MakeBenchServeConfig(*options, environ);
  if (!config) return UsageError(kBenchServeHelp, "tiercel bench serve", config.error().message());
  InitLogging(LogLevel::err);
  Interrupt interrupt;
  SayArguments(*options);
  for (const std::string& warning : config->warnings) Warn(warning);
  const auto code = BenchServe(std::move(*config), environ, &interrupt);
  return code ? *code : Failure("tiercel bench serve", code.error());
}

}  // namespace tiercel::tools
