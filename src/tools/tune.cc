// tiercel tune: measures which flags of `tiercel serve` make a load run best, and says them.
#include <algorithm>
#include <cstdio>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "bench/metrics.h"
#include "bench/offline.h"
#include "bench/tuner.h"
#include "bench/tuning_goal.h"
#include "bench/tuning_knobs.h"
#include "bench/tuning_report.h"
#include "platform/topology.h"
#include "serving/engine_maker.h"
#include "serving/model_loading.h"
#include "serving/model_path.h"
#include "serving/progress_bar.h"
#include "tools/bench_data.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/interrupt.h"
#include "tools/text_file.h"

namespace tiercel::tools {
namespace {

constexpr CommandHelp kTuneHelp = {
    "tiercel tune MODEL --load random:200/128@8 [options]",
    "Finds by measuring, in this process, which flags of `tiercel serve` make a load run best: settings run in turn, "
    "and one takes the place of another only if it is surely better than the noise. Prints what each setting gave and "
    "the command line to use. Flags of `tiercel serve` hold for all settings, and what they decide is not varied.",
    "positional arguments:\n  MODEL   a folder, a .gguf file, or a hub id"};

constexpr OptionSpec kTuneOptions[] = {
    {"--load", Kind::kString, "", Effect::kUsed,
     "What to run: random:INPUT/OUTPUT@CONCURRENCY in tokens and requests at a time, or FILE@CONCURRENCY with JSON lines "
     "(\"prompt\", \"output_tokens\"), ShareGPT's .json or BurstGPT's .csv."},
    {"--goal", Kind::kString, "throughput", Effect::kUsed,
     "What is to be good: throughput (output tokens a second), ttft, itl (their means), or goodput:ttft:500,tpot:60 "
     "(requests a second that keep the bounds, in milliseconds)."},
    {"--knobs", Kind::kStrings, "", Effect::kUsed,
     "Vary these alone, of quantization, ranks, max-num-batched-tokens, max-num-seqs, kv-cache-dtype, prefetch, "
     "pa-shape-list and async-scheduling."},
    {"--exact", Kind::kFlag, "", Effect::kUsed,
     "Leave out what changes the tokens: quantization, INT8 in the KV cache, tensor parallelism."},
    {"--num-prompts", Kind::kInt, "0", Effect::kUsed,
     "Requests of a run. Default: as many as run at a time; of a file twice as many, and at least 16."},
    {"--max-seconds", Kind::kFloat, "600", Effect::kUsed, "Begin nothing that would end later than that."},
    {"--grid", Kind::kInt, "0", Effect::kUsed,
     "Measure every combination of the knobs so many times, instead of searching."},
    {"--output-json", Kind::kString, "", Effect::kUsed, "Write every figure to this file."},
    {"--plot", Kind::kString, "", Effect::kUsed, "Draw what each setting gave into this SVG file."},
    {"--disable-tqdm", Kind::kFlag, "", Effect::kUsed, "No progress bar."},
};

const OptionTable& Table() {
  static const OptionTable table = WithServeOptions({{"tune", "Of tiercel tune.", kTuneOptions}});
  return table;
}

// The flags of `tiercel serve` that were given, as words again; keys are not among them.
std::vector<std::string> ServeWords(const ParsedOptions& options) {
  std::vector<std::string> words;
  for (const OptionSpec* spec : options.NonDefault()) {
    const std::string_view name = spec->name();
    const bool secret = name == "api-key" || name == "hf-token";
    if (secret || name == "config" || name == "model" || options::ServeOptionTable().Find(name) == nullptr) continue;
    const std::string flag = fmt::format("--{}", name);
    switch (spec->kind) {
      case Kind::kSwitch:
        words.push_back(options.On(name) ? flag : fmt::format("--no-{}", name));
        break;
      case Kind::kFlag:
        words.push_back(flag);
        break;
      case Kind::kStrings:
      case Kind::kInts: {
        words.push_back(flag);
        const std::vector<std::string> values = options.Strings(name);
        words.insert(words.end(), values.begin(), values.end());
        break;
      }
      default:
        words.push_back(fmt::format("{}={}", flag, options.String(name)));
    }
  }
  return words;
}

struct TuneConfig {
  serving::ServeConfig model;
  bench::TuningLoad load;
  bench::TuningGoal goal;
  bench::TunerOptions tuner;
  int grid = 0;
  std::string output_json, plot;
};

Expected<TuneConfig> MakeTuneConfig(const ParsedOptions& options, const Environ& environ) {
  TuneConfig config;
  if (options.positional().empty() && !options.Given("model")) {
    return Unexpected(InvalidArgument("the following arguments are required: MODEL"));
  }
  if (!options.Given("load")) {
    return Unexpected(InvalidArgument("the following arguments are required: --load"));
  }
  ASSIGN_OR_RETURN(config.model, serving::MakeServeConfig(options, environ));
  ASSIGN_OR_RETURN(const int64_t num_prompts, options.IntBetween("num-prompts", 0, bench::kMaxPrompts));
  ASSIGN_OR_RETURN(config.load, bench::ParseTuningLoad(options.String("load"), num_prompts));
  config.load.data_set.seed = config.model.engine.seed;
  ASSIGN_OR_RETURN(config.goal, bench::TuningGoal::Parse(options.String("goal")));
  config.tuner.max_seconds = options.Float("max-seconds");
  if (!(config.tuner.max_seconds > 0)) {
    return Unexpected(InvalidArgument("argument --max-seconds: found {}, expected more than 0",
                                      options.String("max-seconds")));
  }
  ASSIGN_OR_RETURN(const int64_t grid, options.IntBetween("grid", 0, 1000));
  config.grid = static_cast<int>(grid);
  for (const auto& [name, path] : {std::pair{"output-json", &config.output_json}, std::pair{"plot", &config.plot}}) {
    *path = options.String(name);
    if (!path->empty()) RETURN_IF_ERROR(PrepareFile(*path));
  }
  return config;
}

// The load's requests as tokens: tokenizing is no part of what is measured.
struct TokenRequests {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int64_t> output_tokens;

  int64_t LongestPrompt() const {
    int64_t longest = 1;
    for (const auto& prompt : prompts) longest = std::max<int64_t>(longest, std::ssize(prompt));
    return longest;
  }
};

Expected<TokenRequests> MakeRequests(const TuneConfig& config, const std::string& path, const Environ& environ) {
  std::string text_path = path;
  if (!config.model.tokenizer.empty()) {
    hub::HubOptions hub = config.model.hub;
    hub.revision = config.model.tokenizer_revision;
    hub.with_weights = false;
    ASSIGN_OR_RETURN(text_path, serving::FindModel(config.model.tokenizer, hub, environ));
  }
  ASSIGN_OR_RETURN(const serving::LoadedText text, serving::LoadText(text_path));
  ASSIGN_OR_RETURN(const bench::TextTools tools, MakeTextTools(text, ""));
  ASSIGN_OR_RETURN(const bench::DataSet set, bench::MakeDataSet(config.load.data_set, tools));
  for (const std::string& warning : set.warnings) std::fprintf(stderr, "WARNING: %s\n", warning.c_str());
  TokenRequests requests;
  for (const bench::BenchRequest& request : set.requests) {
    ASSIGN_OR_RETURN(std::vector<int32_t> prompt, text.tokenizer->Encode(request.prompt, /*add_special=*/true));
    requests.prompts.push_back(std::move(prompt));
    requests.output_tokens.push_back(request.output_tokens);
  }
  return requests;
}

Expected<bench::TuningSubject> DescribeSubject(const TuneConfig& config, const std::string& path,
                                               const TokenRequests& requests, bool exact) {
  ASSIGN_OR_RETURN(const auto checkpoint, serving::OpenCheckpoint(config.model, path));
  ASSIGN_OR_RETURN(const platform::Topology topology, platform::Topology::Detect());
  const checkpoint::ModelConfig& model = checkpoint->config();
  bench::TuningSubject subject;
  subject.concurrency = std::ssize(requests.prompts);
  if (config.load.max_concurrency > 0) {
    subject.concurrency = std::min(subject.concurrency, config.load.max_concurrency);
  }
  subject.longest_prompt = requests.LongestPrompt();
  const std::vector<int> cpus = topology.WorkerCpus();
  const std::vector<int> nodes = topology.NodesOf(cpus);
  subject.cores = static_cast<int>(cpus.size());
  subject.nodes = static_cast<int>(std::set<int>(nodes.begin(), nodes.end()).size());
  subject.num_heads = model.num_heads;
  subject.num_kv_heads = model.num_kv_heads;
  subject.float_weights = checkpoint->quantization().method() == checkpoint::QuantMethod::kNone;
  subject.float_cache = !checkpoint->quantization().kv_cache();
  subject.exact = exact;
  return subject;
}

// Settings to engines to figures.
class Bench {
 public:
  Bench(const TuneConfig& config, std::string path, const Environ& environ, std::vector<std::string> words,
        const bench::TuningKnobs& knobs, const TokenRequests& requests, const std::atomic<bool>* stop)
      : config_(config),
        environ_(environ),
        words_(std::move(words)),
        knobs_(knobs),
        requests_(requests),
        stop_(stop),
        maker_(std::move(path), environ, stop) {}

  Expected<bench::TuningRun> Measure(const bench::Setting& setting) {
    const double begin = clock_.Now();
    if (stop_->load()) return Unexpected(Status(StatusCode::kCancelled, "stopped"));
    std::vector<std::string> words = words_;
    const std::vector<std::string> own = knobs_.WordsOf(setting);
    words.insert(words.end(), own.begin(), own.end());
    ASSIGN_OR_RETURN(const ParsedOptions options, ParseOptions(options::ServeOptionTable(), words, 1));
    ASSIGN_OR_RETURN(serving::ServeConfig config, serving::MakeServeConfig(options, environ_));
    config.engine.log_stats_interval = 0;
    ASSIGN_OR_RETURN(const std::unique_ptr<engine::Engine> engine, maker_.Make(config));
    bench::OfflineWork work;
    work.num_requests = requests_.prompts.size();
    work.prompt = [&](size_t i) { return requests_.prompts[i]; };
    work.output_tokens = [&](size_t i) { return requests_.output_tokens[i]; };
    work.max_concurrency = config_.load.max_concurrency;
    work.stop = stop_;
    ASSIGN_OR_RETURN(const bench::OfflineResult result, bench::RunOffline(work, engine.get(), clock_));
    bench::MetricsOptions options_of_metrics;
    options_of_metrics.goodput_ms = config_.goal.goodput_ms();
    const bench::Metrics metrics =
        bench::CalculateMetrics(result.load.outcomes, result.elapsed_s, options_of_metrics);
    return bench::TuningRun{config_.goal.Score(metrics), clock_.Now() - begin};
  }

 private:
  const TuneConfig& config_;
  const Environ& environ_;
  const std::vector<std::string> words_;
  const bench::TuningKnobs& knobs_;
  const TokenRequests& requests_;
  const std::atomic<bool>* const stop_;
  const SteadyClock clock_;
  serving::EngineMaker maker_;
};

Status Tune(const ParsedOptions& options, TuneConfig config, const Environ& environ, Interrupt* interrupt) {
  const std::atomic<bool>* stop = interrupt->Watch();
  ASSIGN_OR_RETURN(const std::string path, serving::FindModel(config.model.model, config.model.hub, environ));
  ASSIGN_OR_RETURN(const TokenRequests requests, MakeRequests(config, path, environ));
  ASSIGN_OR_RETURN(const bench::TuningSubject subject,
                   DescribeSubject(config, path, requests, options.On("exact")));
  bench::TuningReport report;
  report.load = options.String("load");
  report.goal = options.String("goal");
  report.figure = config.goal;
  report.grid = config.grid > 0;
  report.max_seconds = config.tuner.max_seconds;
  ASSIGN_OR_RETURN(report.knobs,
                   bench::MakeTuningKnobs(
                       subject, [&](std::string_view flag) { return options.Given(flag); },
                       options.Strings("knobs")));
  std::vector<std::string> words{config.model.model};
  const std::vector<std::string> given = ServeWords(options);
  words.insert(words.end(), given.begin(), given.end());
  report.command = {"tiercel", "serve"};
  report.command.insert(report.command.end(), words.begin(), words.end());

  Bench bench(config, path, environ, words, report.knobs, requests, stop);
  const bench::MeasureSetting measure = [&](const bench::Setting& setting) { return bench.Measure(setting); };
  serving::ProgressBar bar("Tuning", !options.On("disable-tqdm"), serving::ProgressBar::Unit::kIterations);
  config.tuner.on_run = [&](int64_t done, int64_t expected) { bar.Update(done, expected); };
  ASSIGN_OR_RETURN(report.result,
                   report.grid ? bench::MeasureAll(report.knobs.space, measure, config.grid, config.tuner)
                               : bench::Tune(report.knobs.space, measure, config.tuner));
  bar.Finish();
  std::fputs(bench::RenderTuning(report).c_str(), stdout);
  if (!config.output_json.empty()) {
    RETURN_IF_ERROR(WriteJson(config.output_json, bench::TuningJson(report), /*append=*/false));
  }
  if (!config.plot.empty()) RETURN_IF_ERROR(WriteText(config.plot, bench::RenderTuningPlot(report)));
  return OkStatus();
}

}  // namespace

CommandText DescribeTune() { return {kTuneHelp, Table()}; }

int RunTune(const std::vector<std::string>& words) {
  constexpr const char* kName = "tiercel tune";
  const auto options = ParseOptions(Table(), words, 1);
  if (!options) return UsageError(kTuneHelp, kName, options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(Table(), kTuneHelp, options->help_topic()).c_str(), stdout);
    return kExitOk;
  }
  const Environ environ = ReadEnviron();
  auto config = MakeTuneConfig(*options, environ);
  if (!config) return UsageError(kTuneHelp, kName, config.error().message());
  InitQuietLogging(environ);
  Interrupt interrupt;
  const Status status = Tune(*options, std::move(*config), environ, &interrupt);
  if (status.ok()) return kExitOk;
  const int code = Failure(kName, status);
  return interrupt.stopped() ? Interrupt::kExitCode : code;
}

}  // namespace tiercel::tools
