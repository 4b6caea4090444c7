// tiercel bench latency and tiercel bench throughput: the engine without a server.
#include <algorithm>
#include <cstdio>
#include <functional>

#include "base/clock.h"
#include "base/log.h"
#include "bench/metrics.h"
#include "bench/offline.h"
#include "bench/plot.h"
#include "bench/random_text.h"
#include "serving/model_path.h"
#include "serving/progress_bar.h"
#include "serving/serving_model.h"
#include "tools/bench_commands.h"
#include "tools/bench_data.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/follower.h"
#include "tools/interrupt.h"
#include "tools/text_file.h"

namespace tiercel::tools {
namespace {

using api::Json;

constexpr CommandHelp kLatencyHelp = {
    "tiercel bench latency --model MODEL [options]",
    "Runs one batch of random prompts again and again in this process and shows how long it took. "
    "Flags, those of the engine included, lines and files are those of `vllm bench latency`; as "
    "there, the prefix cache is off unless asked for.",
    ""};
constexpr CommandHelp kThroughputHelp = {"tiercel bench throughput --model MODEL [options]",
                                         "Gives all prompts of a data set to the engine in this "
                                         "process and shows how many tokens a second it made of "
                                         "them. Flags, those of the engine included, lines and "
                                         "files are those of `vllm bench throughput`.",
                                         ""};

// The model of the flags, in an engine of this process.
struct OfflineEngine {
  kernels::Environments environments;
  server::ServingModel model;  // goes first: it uses the environments
};

Expected<OfflineEngine> Start(serving::ServeConfig config, const Environ& environ) {
  OfflineEngine started;
  ASSIGN_OR_RETURN(const std::string path, serving::FindModel(config.model, config.hub, environ));
  RETURN_IF_ERROR(serving::JoinJob(&config, nullptr));
  ASSIGN_OR_RETURN(started.environments, kernels::CreateEnvironments(config.environment));
  ASSIGN_OR_RETURN(started.model,
                   serving::LoadServingModel(&config, path, environ, started.environments));
  if (started.model.pooling) {
    return Unexpected(InvalidArgument("{}: expected a model that generates text", config.model));
  }
  return started;
}

// What the flags of either benchmark come to.
struct OfflineConfig {
  serving::ServeConfig model;
  int n = 1;
  bool detokenize = true;
  bool progress_bar = true;
  std::string output_json, plot;
};

Expected<OfflineConfig> MakeOfflineConfig(const ParsedOptions& options, const Environ& environ) {
  OfflineConfig config;
  ASSIGN_OR_RETURN(config.model, serving::MakeServeConfig(options, environ));
  config.model.engine.log_stats_interval = 0;
  ASSIGN_OR_RETURN(const int64_t n, options.IntBetween("n", 1, sampling::kMaxSamples));
  config.n = static_cast<int>(n);
  config.detokenize = !options.On("disable-detokenize");
  config.progress_bar = !options.On("disable-tqdm");
  config.output_json = options.String("output-json");
  if (!config.output_json.empty()) RETURN_IF_ERROR(PrepareFile(config.output_json));
  config.plot = options.String("plot");
  if (!config.plot.empty()) RETURN_IF_ERROR(PrepareFile(config.plot));
  return config;
}

bench::OfflineWork WorkOf(const OfflineConfig& config, const OfflineEngine& engine,
                          const std::atomic<bool>* stop) {
  bench::OfflineWork work;
  work.n = config.n;
  work.stop = stop;
  if (config.detokenize) work.detokenize = engine.model.tokenizer.get();
  return work;
}

struct Batches {
  int64_t input_len, output_len, batch_size, warmups, iterations;
};

Expected<Batches> BatchesFromFlags(const ParsedOptions& options) {
  Batches batches{};
  constexpr int64_t kMaxBatch = 1 << 16, kMaxIterations = 1'000'000;
  ASSIGN_OR_RETURN(batches.input_len, options.IntBetween("input-len", 1, bench::kMaxPromptTokens));
  ASSIGN_OR_RETURN(batches.output_len, options.IntBetween("output-len", 1, bench::kMaxPromptTokens));
  ASSIGN_OR_RETURN(batches.batch_size, options.IntBetween("batch-size", 1, kMaxBatch));
  ASSIGN_OR_RETURN(batches.warmups, options.IntBetween("num-iters-warmup", 0, kMaxIterations));
  ASSIGN_OR_RETURN(batches.iterations, options.IntBetween("num-iters", 1, kMaxIterations));
  return batches;
}

// Seconds of each batch. All have the same prompts, of random tokens.
Expected<std::vector<double>> TimeBatches(const OfflineConfig& config, const Batches& batches,
                                          OfflineEngine* engine, const std::atomic<bool>* stop) {
  constexpr uint64_t kTokens = 10'000;  // of the vocabulary's beginning, as in vLLM
  const auto vocabulary =
      std::min(kTokens, static_cast<uint64_t>(engine->model.tokenizer->vocab_size()));
  bench::Random random(static_cast<uint64_t>(config.model.engine.seed));
  std::vector<std::vector<int32_t>> prompts(static_cast<size_t>(batches.batch_size));
  for (auto& prompt : prompts) {
    for (int64_t i = 0; i < batches.input_len; ++i) {
      prompt.push_back(static_cast<int32_t>(bench::Below(&random, vocabulary)));
    }
  }
  bench::OfflineWork work = WorkOf(config, *engine, stop);
  work.num_requests = prompts.size();
  work.prompt = [&](size_t index) { return prompts[index]; };
  work.output_tokens = [&](size_t) { return batches.output_len; };

  const auto repeat = [&](const char* label, int64_t count) -> Expected<std::vector<double>> {
    std::vector<double> seconds;
    serving::ProgressBar bar(label, config.progress_bar, serving::ProgressBar::Unit::kIterations);
    for (int64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(const bench::OfflineResult result,
                       bench::RunOffline(work, engine->model.engine.get(), SteadyClock()));
      seconds.push_back(result.elapsed_s);
      bar.Update(i + 1, count);
    }
    return seconds;
  };
  std::puts("Warming up...");
  std::fflush(stdout);
  if (const auto warmup = repeat("Warmup iterations", batches.warmups); !warmup) return warmup;
  return repeat("Bench iterations", batches.iterations);
}

Status Latency(const ParsedOptions& options, OfflineConfig config, const Environ& environ,
               Interrupt* interrupt) {
  ASSIGN_OR_RETURN(const Batches batches, BatchesFromFlags(options));
  // Every batch after the first would find its prompts there.
  config.model.engine.enable_prefix_caching =
      options.Given("enable-prefix-caching") && options.On("enable-prefix-caching");
  ASSIGN_OR_RETURN(OfflineEngine engine, Start(config.model, environ));
  ASSIGN_OR_RETURN(std::vector<double> seconds,
                   TimeBatches(config, batches, &engine, interrupt->Watch()));
  constexpr double kPercents[] = {10, 25, 50, 75, 90, 99};
  const bench::Distribution latency = bench::Describe(seconds, kPercents);
  std::string lines = fmt::format("Avg latency: {} seconds\n", latency.mean);
  Json::Object percentiles;
  for (const auto& [percent, value] : latency.percentiles) {
    lines += fmt::format("{:.0f}% percentile latency: {} seconds\n", percent, value);
    percentiles.push_back({fmt::format("{:.0f}", percent), Json(value)});
  }
  std::fputs(lines.c_str(), stdout);
  if (!config.plot.empty()) {
    const std::string line =
        fmt::format("{} batches of {} prompts, {} tokens in and {} out; {:.3f} s on average", seconds.size(),
                    batches.batch_size, batches.input_len, batches.output_len, latency.mean);
    RETURN_IF_ERROR(
        WriteText(config.plot, bench::RenderLatencyPlot("latency: " + config.model.model, line, seconds)));
  }
  if (config.output_json.empty()) return OkStatus();
  return WriteJson(config.output_json,
                   Json::Of({{"model_id", Json(config.model.model)},
                             {"avg_latency", Json(latency.mean)},
                             {"latencies", Json(Json::Array(seconds.begin(), seconds.end()))},
                             {"percentiles", Json(std::move(percentiles))}}),
                   /*append=*/false);
}

Expected<bench::DataSetOptions> ThroughputDataSet(const ParsedOptions& options) {
  ASSIGN_OR_RETURN(bench::DataSetOptions set, DataSetFromFlags(options));
  if (options.Given("dataset")) {
    set.path = options.String("dataset");
    if (!options.Given("dataset-name")) set.name = "sharegpt";
  }
  if (options.Given("prefix-len")) {
    set.random.prefix_len = set.sonnet.prefix_len = options.Int("prefix-len");
  }
  return set;
}

Status Throughput(const ParsedOptions& options, OfflineConfig config, const Environ& environ,
                  Interrupt* interrupt) {
  ASSIGN_OR_RETURN(const bench::DataSetOptions set_options, ThroughputDataSet(options));
  ASSIGN_OR_RETURN(const int64_t warmups, options.IntBetween("num-warmups", 0, bench::kMaxPrompts));
  ASSIGN_OR_RETURN(OfflineEngine engine, Start(config.model, environ));
  const serving::LoadedText text{engine.model.tokenizer, engine.model.chat_template};
  ASSIGN_OR_RETURN(const bench::TextTools tools,
                   MakeTextTools(text, options.String("chat-template-kwargs")));
  ASSIGN_OR_RETURN(const bench::DataSet set, bench::MakeDataSet(set_options, tools));
  for (const std::string& warning : set.warnings) {
    std::fprintf(stderr, "WARNING: %s\n", warning.c_str());
  }
  const std::vector<bench::BenchRequest>& requests = set.requests;
  bench::OfflineWork work = WorkOf(config, engine, interrupt->Watch());
  const auto at = [&](size_t index) -> const bench::BenchRequest& {
    return requests[index % requests.size()];
  };
  work.prompt = [&](size_t index) {
    return text.tokenizer->Encode(at(index).prompt, /*add_special=*/true);
  };
  work.output_tokens = [&](size_t index) { return at(index).output_tokens; };
  const auto run = [&](const char* label, size_t count) {
    serving::ProgressBar bar(label, config.progress_bar, serving::ProgressBar::Unit::kRequests);
    work.num_requests = count;
    work.on_end = [&bar, count](int64_t ended) { bar.Update(ended, static_cast<int64_t>(count)); };
    return bench::RunOffline(work, engine.model.engine.get(), SteadyClock());
  };
  if (warmups > 0) {
    std::puts(fmt::format("Warming up with {} requests...", warmups).c_str());
    if (const auto warmup = run("Warmup", static_cast<size_t>(warmups)); !warmup) {
      return warmup.error();
    }
    engine.model.engine->ResetPrefixCache();  // what the run begins with is not there yet
  }
  ASSIGN_OR_RETURN(const bench::OfflineResult result, run("Processed prompts", requests.size()));

  const double elapsed = result.elapsed_s;
  const auto count = std::ssize(requests);
  const int64_t tokens = result.prompt_tokens + result.output_tokens;
  const auto rate = [&](int64_t amount) { return static_cast<double>(amount) / elapsed; };
  std::fputs(fmt::format("Throughput: {:.2f} requests/s, {:.2f} total tokens/s, {:.2f} output "
                         "tokens/s\nTotal num prompt tokens:  {}\nTotal num output tokens:  {}\n",
                         rate(count), rate(tokens), rate(result.output_tokens),
                         result.prompt_tokens, result.output_tokens)
                 .c_str(),
             stdout);
  if (!config.plot.empty()) {
    const std::string line = fmt::format("{} requests, all at once, in {:.1f} s; {:.1f} output tokens a second",
                                         count, elapsed, rate(result.output_tokens));
    RETURN_IF_ERROR(
        WriteText(config.plot, bench::RenderLoadPlot("throughput: " + config.model.model, line, result.load)));
  }
  if (config.output_json.empty()) return OkStatus();
  return WriteJson(config.output_json,
                   Json::Of({{"model_id", Json(config.model.model)},
                             {"elapsed_time", Json(elapsed)},
                             {"num_requests", Json(int64_t{count})},
                             {"total_num_tokens", Json(tokens)},
                             {"requests_per_second", Json(rate(count))},
                             {"tokens_per_second", Json(rate(tokens))}}),
                   /*append=*/false);
}

using Benchmark = Status (*)(const ParsedOptions&, OfflineConfig, const Environ&, Interrupt*);

int RunOfflineBenchmark(const char* name, const OptionTable& table, const CommandHelp& help,
                        Benchmark benchmark, const std::vector<std::string>& words) {
  const auto options = ParseOptions(table, words, 0);
  if (!options) return UsageError(help, name, options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(table, help, options->help_topic()).c_str(), stdout);
    return kExitOk;
  }
  const Environ environ = ReadEnviron();
  auto config = MakeOfflineConfig(*options, environ);
  if (!config) return UsageError(help, name, config.error().message());
  InitQuietLogging(environ);
  if (IsFollower(config->model)) return RunFollower(std::move(config->model), environ);
  Interrupt interrupt;
  const Status status = benchmark(*options, std::move(*config), environ, &interrupt);
  if (status.ok()) return kExitOk;
  const int code = Failure(name, status);
  return interrupt.stopped() ? Interrupt::kExitCode : code;
}

}  // namespace

CommandText DescribeBenchLatency() { return {kLatencyHelp, options::BenchLatencyOptionTable()}; }

int RunBenchLatency(const std::vector<std::string>& words) {
  return RunOfflineBenchmark("tiercel bench latency", options::BenchLatencyOptionTable(), kLatencyHelp,
                             &Latency, words);
}

CommandText DescribeBenchThroughput() { return {kThroughputHelp, options::BenchThroughputOptionTable()}; }

int RunBenchThroughput(const std::vector<std::string>& words) {
  return RunOfflineBenchmark("tiercel bench throughput", options::BenchThroughputOptionTable(),
                             kThroughputHelp, &Throughput, words);
}

}  // namespace tiercel::tools
