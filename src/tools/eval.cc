// tiercel eval: how well a model predicts a text, alone or beside another model.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "api/json.h"
#include "base/log.h"
#include "kernels/environment.h"
#include "serving/model_loading.h"
#include "serving/model_path.h"
#include "serving/progress_bar.h"
#include "serving/serve_config.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/evaluation.h"

namespace tiercel::tools {
namespace {

constexpr CommandHelp kEvalHelp = {
    "tiercel eval {perplexity,kl} MODEL --text FILE [options]",
    "Lets a model predict every token of a text, without a server. perplexity: exp of the mean "
    "−log p, ± its standard error. kl: the divergence KL(reference ‖ MODEL) of their next-token "
    "distributions, and how often both prefer the same token. Every flag of `tiercel serve` that "
    "says how a model is loaded applies to MODEL; the reference is loaded with the defaults.",
    "positional arguments:\n  MODEL   a folder, a .gguf file, or a hub id"};

constexpr OptionSpec kEvalOptions[] = {
    {"--text", Kind::kString, "", Effect::kUsed, "A plain text file."},
    {"--reference", Kind::kString, "", Effect::kUsed,
     "kl: the model to compare with, such as the unquantized one. It has the same tokenizer."},
    {"--tokens", Kind::kHumanInt, "20000", Effect::kUsed,
     "Take so many tokens from the start of the text; 0: all."},
    {"--window", Kind::kHumanInt, "1024", Effect::kUsed,
     "The text is cut into windows of so many tokens, and each is computed on its own (after BOS, "
     "where the tokenizer adds one)."},
    {"--stride", Kind::kHumanInt, "", Effect::kUsed,
     "Begin a window every so many tokens and score only what the one before did not, so that "
     "every token is predicted from at least WINDOW − STRIDE others. Default: the window."},
    {"--json", Kind::kFlag, "", Effect::kUsed, "Print one JSON object instead of a table."},
};

const OptionTable& EvalTable() {
  static const OptionTable table = WithServeOptions({{"eval", "Of tiercel eval.", kEvalOptions}});
  return table;
}

constexpr int64_t kMaxTextBytes = int64_t{1} << 30;
constexpr int64_t kMaxBytesOfToken = 64;  // on average; no text comes near it

// The beginning of the file: what `tokens` tokens surely fit in (0: all of it).
Expected<std::string> ReadText(const std::string& path, int64_t tokens) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return Unexpected(NotFound("argument --text: {}: {}", path, error.message()));
  int64_t bytes = static_cast<int64_t>(std::min<uintmax_t>(size, kMaxTextBytes + 1));
  if (tokens > 0) bytes = std::min(bytes, tokens * kMaxBytesOfToken);
  if (bytes > kMaxTextBytes) {
    return Unexpected(InvalidArgument("argument --text: {}: found {} bytes, expected at most {}; "
                                      "take a part of it with --tokens",
                                      path, size, kMaxTextBytes));
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file || !file.read(text.data(), bytes)) {
    return Unexpected(InvalidArgument("argument --text: {}: cannot be read", path));
  }
  return text;
}

struct EvalConfig {
  std::string metric;
  serving::ServeConfig model;
  std::string reference;
  std::string text;
  int64_t tokens = 0;
  int64_t window = 0;  // 0: the default, or what the model takes
  int64_t stride = 0;  // 0: the window
  bool json = false;
};

constexpr int64_t kDefaultWindow = 1024;
constexpr int64_t kMaxWindow = int64_t{1} << 20;
constexpr int64_t kMaxTokens = int64_t{1} << 30;

Expected<EvalConfig> MakeEvalConfig(const std::string& metric, const ParsedOptions& options,
                                    const Environ& environ) {
  EvalConfig config;
  config.metric = metric;
  if (options.positional().empty()) {
    return Unexpected(InvalidArgument("the following arguments are required: MODEL"));
  }
  if (!options.Given("text")) {
    return Unexpected(InvalidArgument("the following arguments are required: --text"));
  }
  if (options.Given("reference") != (metric == "kl")) {
    return Unexpected(metric == "kl"
                          ? InvalidArgument("the following arguments are required: --reference")
                          : InvalidArgument("argument --reference: only kl compares two models"));
  }
  ASSIGN_OR_RETURN(config.model, serving::MakeServeConfig(options, environ));
  if (config.model.data_parallel_size > 1) {
    return Unexpected(InvalidArgument("argument --data-parallel-size: found {}, expected 1: eval runs one engine",
                                      config.model.data_parallel_size));
  }
  if (config.model.job) {
    return Unexpected(InvalidArgument("eval runs in one process: found a job of several"));
  }
  config.reference = options.String("reference");
  config.text = options.String("text");
  ASSIGN_OR_RETURN(config.tokens, options.IntBetween("tokens", 0, kMaxTokens));
  if (options.Given("window")) {
    ASSIGN_OR_RETURN(config.window, options.IntBetween("window", 2, kMaxWindow));
  }
  if (options.Given("stride")) {
    ASSIGN_OR_RETURN(config.stride, options.IntBetween("stride", 1, kMaxWindow));
  }
  config.json = options.On("json");
  return config;
}

Expected<serving::LoadedModel> Load(serving::ServeConfig config, const Environ& environ,
                           kernels::Environment* environment) {
  config.load.graph.mode = model::GraphMode::kNone;  // no two steps have the same shape
  ASSIGN_OR_RETURN(const std::string path, serving::FindModel(config.model, config.hub, environ));
  config.runner = {.runner = "generate", .convert = "auto", .pooler = {}};  // it is the logits that are looked at
  return serving::LoadAll(config, path, environ, {&environment, 1});
}

// On as many ranks as the model it is compared with: both run on one team.
Expected<serving::ServeConfig> ReferenceConfig(const std::string& name, int64_t ranks, const Environ& environ) {
  ASSIGN_OR_RETURN(const ParsedOptions options,
                   ParseOptions(options::ServeOptionTable(), {name, fmt::format("--tensor-parallel-size={}", ranks)}, 1));
  return serving::MakeServeConfig(options, environ);
}

// The token that the tokenizer puts before a text, if it does.
std::optional<int32_t> BosOf(const text::Tokenizer& tokenizer) {
  const auto special = tokenizer.Encode("", /*add_special=*/true);
  return !special || special->empty() ? std::nullopt : std::optional<int32_t>(special->front());
}

struct Prepared {
  std::vector<int32_t> tokens;
  int64_t window = 0;
  int64_t stride = 0;
  std::vector<EvalWindow> windows;
  std::optional<int32_t> bos;

  EvalText text() const { return {tokens, windows, bos}; }
};

Expected<Prepared> PrepareText(const EvalConfig& config, const serving::LoadedModel& loaded) {
  ASSIGN_OR_RETURN(const std::string text, ReadText(config.text, config.tokens));
  Prepared prepared;
  ASSIGN_OR_RETURN(prepared.tokens, loaded.tokenizer->Encode(text, /*add_special=*/false));
  if (config.tokens > 0 && std::ssize(prepared.tokens) > config.tokens) {
    prepared.tokens.resize(static_cast<size_t>(config.tokens));
  }
  for (const int32_t token : prepared.tokens) {
    if (token >= loaded.models[0]->vocab_size()) {
      return Unexpected(InvalidArgument("{}: found the token id {}, the model has {}",
                                        config.model.model, token, loaded.models[0]->vocab_size()));
    }
  }
  prepared.bos = BosOf(*loaded.tokenizer);
  if (std::ssize(prepared.tokens) < 2) {
    return Unexpected(InvalidArgument("argument --text: {}: found {} tokens, expected at least 2",
                                      config.text, prepared.tokens.size()));
  }
  const int64_t fitting = loaded.models[0]->max_position() - (prepared.bos ? 1 : 0);
  prepared.window = config.window > 0 ? config.window : std::min(kDefaultWindow, fitting);
  prepared.stride = config.stride > 0 ? config.stride : prepared.window;
  if (prepared.window > fitting) {
    return Unexpected(InvalidArgument("argument --window: found {}, {} takes at most {}",
                                      prepared.window, config.model.model, fitting));
  }
  if (prepared.stride > prepared.window) {
    return Unexpected(InvalidArgument("argument --stride: found {}, expected at most the window, {}",
                                      prepared.stride, prepared.window));
  }
  prepared.windows = CutWindows(std::ssize(prepared.tokens), prepared.window, prepared.stride,
                                prepared.bos.has_value());
  return prepared;
}

// Both must see the same tokens, or there is nothing to compare.
Status CheckSameTokens(const EvalConfig& config, const serving::LoadedModel& loaded,
                       const serving::LoadedModel& reference, const Prepared& prepared) {
  if (loaded.models[0]->vocab_size() != reference.models[0]->vocab_size()) {
    return InvalidArgument("argument --reference: {} has a vocabulary of {} tokens, {} of {}",
                           config.reference, reference.models[0]->vocab_size(), config.model.model,
                           loaded.models[0]->vocab_size());
  }
  ASSIGN_OR_RETURN(const Prepared other, PrepareText(config, reference));
  if (other.tokens != prepared.tokens || other.bos != prepared.bos) {
    return InvalidArgument("argument --reference: {} has another tokenizer than {}",
                           config.reference, config.model.model);
  }
  return OkStatus();
}

// The table's lines, and the same as JSON members.
class Report {
 public:
  explicit Report(const EvalConfig& config) : json_(config.json) {
    Add("model", config.model.model);
    if (!config.reference.empty()) Add("reference", config.reference);
    Add("text", config.text);
  }

  void Add(const char* name, const std::string& value) { Line(name, value, name, value); }
  void Count(const char* name, int64_t value) { Line(name, std::to_string(value), name, value); }
  void Number(const char* name, const char* key, double value) {
    Line(name, fmt::format("{:.6g}", value), key, value);
  }
  void NumberWithError(const char* name, const std::string& key, double value, double error) {
    Line(name, fmt::format("{:.6g} ± {:.2g}", value, error), key, value);
    members_.push_back({key + "_standard_error", api::Json(error)});
  }
  void Perplexity(const char* name, const std::string& key, const std::vector<double>& nll) {
    const Summary summary = Summarize(nll);
    const double perplexity = std::exp(summary.mean);
    NumberWithError(name, key, perplexity, perplexity * summary.standard_error);
  }

  void Print() const {
    const std::string text = json_ ? api::Json(members_).Dump() + "\n" : table_;
    std::fputs(text.c_str(), stdout);
  }

 private:
  void Line(const char* name, const std::string& shown, const std::string& key, api::Json value) {
    table_ += fmt::format("{:<22}{}\n", name, shown);
    members_.push_back({key, std::move(value)});
  }

  const bool json_;
  std::string table_;
  api::Json::Object members_;
};

Status CheckFinite(const EvalConfig& config, const std::vector<double>& values) {
  if (std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); })) {
    return OkStatus();
  }
  return FailedPrecondition("{}: found logits that are not finite", config.model.model);
}

Status Evaluate(const EvalConfig& config, const Environ& environ) {
  ASSIGN_OR_RETURN(const auto environments, kernels::CreateEnvironments(config.model.environment));
  kernels::Environment* const environment = environments[0].get();
  ASSIGN_OR_RETURN(const serving::LoadedModel loaded, Load(config.model, environ, environment));
  ASSIGN_OR_RETURN(const Prepared prepared, PrepareText(config, loaded));
  serving::LoadedModel reference;
  if (config.metric == "kl") {
    ASSIGN_OR_RETURN(serving::ServeConfig other, ReferenceConfig(config.reference, config.model.tensor_parallel_size, environ));
    ASSIGN_OR_RETURN(reference, Load(std::move(other), environ, environment));
    RETURN_IF_ERROR(CheckSameTokens(config, loaded, reference, prepared));
  }

  serving::ProgressBar bar("Evaluating", config.model.progress_bar, serving::ProgressBar::Unit::kTokens);
  const auto progress = [&](int64_t done, int64_t total) { bar.Update(done, total); };
  KlScores scores;
  if (config.metric == "kl") {
    ASSIGN_OR_RETURN(scores, ScoreKl(loaded.models[0].get(), reference.models[0].get(), environment,
                                     prepared.text(), progress));
  } else {
    ASSIGN_OR_RETURN(NllScores only, ScorePerplexity(loaded.models[0].get(), environment,
                                                     prepared.text(), progress));
    scores.nll = std::move(only.nll);
  }
  bar.Finish();
  for (const auto* list : {&scores.nll, &scores.reference_nll, &scores.kl}) {
    RETURN_IF_ERROR(CheckFinite(config, *list));
  }

  Report report(config);
  report.Count("tokens", std::ssize(prepared.tokens));
  report.Count("scored", std::ssize(scores.nll));
  report.Count("window", prepared.window);
  report.Count("stride", prepared.stride);
  report.Perplexity("perplexity", "perplexity", scores.nll);
  if (config.metric == "kl") {
    report.Perplexity("reference perplexity", "reference_perplexity", scores.reference_nll);
    const Summary kl = Summarize(scores.kl);
    report.NumberWithError("KL mean", "kl_mean", kl.mean, kl.standard_error);
    report.Number("KL median", "kl_median", kl.median);
    report.Number("KL 99th percentile", "kl_p99", kl.p99);
    report.Number("KL max", "kl_max", kl.max);
    const Summary same = Summarize(scores.same_top);
    report.NumberWithError("same top token", "same_top_token", same.mean, same.standard_error);
  }
  report.Print();
  return OkStatus();
}

}  // namespace

CommandText DescribeEval() { return {kEvalHelp, EvalTable(), "perplexity|kl"}; }

int RunEval(const std::vector<std::string>& words) {
  const auto is_help = [](const std::string& word) {
    return word == "-h" || word.starts_with("--help");
  };
  const bool has_metric = !words.empty() && (words[0] == "perplexity" || words[0] == "kl");
  if (!has_metric && (words.empty() || !is_help(words[0]))) {
    return UsageError(kEvalHelp, "tiercel eval",
                      words.empty() ? "the following arguments are required: perplexity or kl"
                                    : fmt::format("argument metric: invalid choice: '{}' (choose "
                                                  "from 'perplexity', 'kl')",
                                                  words[0]));
  }
  const auto options = ParseOptions(EvalTable(), {words.begin() + has_metric, words.end()}, 1);
  if (!options) return UsageError(kEvalHelp, "tiercel eval", options.error().message());
  if (options->help_wanted()) {
    const std::string topic = options->help_topic().empty() ? "eval" : options->help_topic();
    std::fputs(RenderHelp(EvalTable(), kEvalHelp, topic).c_str(), stdout);
    return kExitOk;
  }
  const Environ environ = ReadEnviron();
  const auto config = MakeEvalConfig(words[0], *options, environ);
  if (!config) return UsageError(kEvalHelp, "tiercel eval", config.error().message());
  InitQuietLogging(environ);
  const Status status = Evaluate(*config, environ);
  return status.ok() ? kExitOk : Failure("tiercel eval", status);
}

}  // namespace tiercel::tools
