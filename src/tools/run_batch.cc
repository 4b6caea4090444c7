// tiercel run-batch: the requests of an OpenAI batch file, without a server.
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "base/log.h"
#include "hub/cache.h"
#include "net/http_client.h"
#include "serving/model_path.h"
#include "serving/progress_bar.h"
#include "serving/serving_model.h"
#include "tools/batch_files.h"
#include "tools/batch_job.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/signals.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;

constexpr CommandHelp kRunBatchHelp = {
    "tiercel run-batch -i INPUT.jsonl -o OUTPUT.jsonl --model MODEL [options]",
    "Answers each line of a file, {\"custom_id\": …, \"method\": \"POST\", \"url\": \"/v1/chat/completions\", "
    "\"body\": {…}}, with a line of another, in the same order. The url is any of the endpoints of `tiercel "
    "serve` that run on the model. A run that was interrupted goes on where it was when the same command is "
    "given again. Every flag of `tiercel serve` that says how a model is loaded and run applies.",
    "positional arguments:\n  MODEL   a folder, a .gguf file, or a hub id; or give it by --model"};

constexpr OptionSpec kBatchOptions[] = {
    {"--input-file -i", Kind::kString, "", Effect::kUsed,
     "A file, a pipe such as /dev/stdin (of at most 4 GiB), or an http or https URL, of requests."},
    {"--output-file -o", Kind::kString, "", Effect::kUsed,
     "A file for the answers, or an http or https URL to PUT them to. What is no regular file, such as /dev/stdout or "
     "a FIFO, is written into when all are there."},
    {"--output-tmp-dir", Kind::kString, "", Effect::kUsed,
     "Where files lie meanwhile whose input or output is a URL or no regular file. Default: the system's folder for "
     "temporary files."},
    {"--enable-metrics", Kind::kFlag, "", Effect::kNone, "There is no server to ask for metrics."},
    {"--url", Kind::kString, "0.0.0.0", Effect::kNone, "There is no server to ask for metrics."},
};

const OptionTable& BatchTable() {
  static const OptionTable table = WithServeOptions({{"run-batch", "Of tiercel run-batch.", kBatchOptions}});
  return table;
}

struct BatchConfig {
  serving::ServeConfig model;
  BatchPlaces places;
};

Expected<BatchConfig> MakeBatchConfig(const ParsedOptions& options, const Environ& environ) {
  for (const char* flag : {"input-file", "output-file"}) {
    if (options.Given(flag)) continue;
    return Unexpected(InvalidArgument("the following arguments are required: --{}", flag));
  }
  BatchConfig config;
  ASSIGN_OR_RETURN(config.model, serving::MakeServeConfig(options, environ));
  if (options.Given("otlp-traces-endpoint")) {
    config.model.warnings.push_back("--otlp-traces-endpoint has no effect here: a batch has no traces");
  }
  config.places = {options.String("input-file"), options.String("output-file"), options.String("output-tmp-dir")};
  std::string& folder = config.places.folder;
  std::error_code error;
  if (folder.empty()) folder = fs::temp_directory_path(error);
  if (folder.empty()) folder = "/tmp";
  return config;
}

// Where the answers are collected: a name that only the same input with the same flags has.
Expected<std::string> PartialPath(const BatchConfig& config, const InputFile& input, const OutputPlace& output) {
  ASSIGN_OR_RETURN(const std::string sha, hub::Sha256OfFile(input.path));
  return fmt::format("{}.{}-{}.partial", output.collected, sha.substr(0, 16),
                     serving::ShortHash(config.model.non_default_args));
}

// How many answers a file of an earlier run has; what of it is no whole line is cut off.
Expected<int64_t> TakeUp(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return 0;
  std::ifstream file(path, std::ios::binary);
  std::string line;
  int64_t lines = 0, bytes = 0;
  while (std::getline(file, line) && !file.eof()) {
    ++lines;
    bytes += static_cast<int64_t>(line.size()) + 1;
  }
  fs::resize_file(path, static_cast<uintmax_t>(bytes), error);
  if (error) return Unexpected(FailedPrecondition("{}: {}", path, error.message()));
  return lines;
}

// Twice what a body may have: what is longer is no file of requests.
constexpr size_t kMaxLineBytes = size_t{64} << 20;

// Lines of the input that are none of blanks.
class Lines {
 public:
  explicit Lines(const InputFile& input) : name_(input.name), file_(input.path, std::ios::binary) {}

  Expected<std::optional<std::string>> Next() {
    std::string line;
    while (Read(&line)) {
      if (line.size() > kMaxLineBytes) {
        return Unexpected(InvalidArgument("argument --input-file: {}: line {}: found more than {} bytes",
                                          name_, number_, kMaxLineBytes));
      }
      if (line.find_first_not_of(" \t\r") != std::string::npos) return line;
    }
    if (!file_.is_open() || file_.bad()) return Unexpected(FileError(name_, "cannot be read"));
    return std::nullopt;
  }

 private:
  // The next line, or its first kMaxLineBytes + 1.
  bool Read(std::string* line) {
    line->clear();
    ++number_;
    char c;
    while (line->size() <= kMaxLineBytes && file_.get(c)) {
      if (c == '\n') return true;
      line->push_back(c);
    }
    return !line->empty();
  }

  const std::string name_;
  std::ifstream file_;
  int64_t number_ = 0;
};

Expected<int64_t> CountLines(const InputFile& input) {
  Lines lines(input);
  int64_t count = 0;
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<std::string> line, lines.Next());
    if (!line) return count;
    ++count;
  }
}

class Output {
 public:
  explicit Output(std::string path) : path_(std::move(path)), file_(std::fopen(path_.c_str(), "a")) {}
  ~Output() {
    if (file_ != nullptr) std::fclose(file_);
  }

  Status Open() const { return file_ != nullptr ? OkStatus() : FileError(path_, "cannot be written"); }
  // Each line is there when the next one comes.
  Status Write(const std::string& line) {
    if (std::fwrite(line.data(), 1, line.size(), file_) == line.size() && std::fflush(file_) == 0) {
      return OkStatus();
    }
    return FileError(path_, "cannot be written");
  }

 private:
  const std::string path_;
  std::FILE* const file_;
};

// The job that a signal's thread may wake.
class Wakeable {
 public:
  void Set(BatchJob* job) {
    const std::lock_guard lock(mutex_);
    job_ = job;
  }
  // False: there is none.
  bool Wake() {
    const std::lock_guard lock(mutex_);
    if (job_ != nullptr) job_->Wake();
    return job_ != nullptr;
  }

 private:
  std::mutex mutex_;
  BatchJob* job_ = nullptr;
};

struct Outcome {
  BatchJob::Counts counts;
  int64_t taken_up = 0;
};

Expected<Outcome> Answer(BatchConfig* config, const InputFile& input, const std::string& partial,
                         const Environ& environ, const std::atomic<bool>& stop,
                         Wakeable* running) {
  Outcome outcome;
  ASSIGN_OR_RETURN(const int64_t total, CountLines(input));
  ASSIGN_OR_RETURN(outcome.taken_up, TakeUp(partial));
  if (outcome.taken_up > 0) {
    LOG_INFO("{} of {} requests were answered before: going on behind them ({})", outcome.taken_up, total,
             partial);
  }
  Output output(partial);
  RETURN_IF_ERROR(output.Open());
  if (outcome.taken_up == total) return outcome;

  ASSIGN_OR_RETURN(const std::string path, serving::FindModel(config->model.model, config->model.hub, environ));
  ASSIGN_OR_RETURN(const auto environments, kernels::CreateEnvironments(config->model.environment));
  ASSIGN_OR_RETURN(server::ServingModel serving,
                   serving::LoadServingModel(&config->model, path, environ, environments));
  std::vector<std::string> names = config->model.server.served_model_names;
  if (names.empty()) names = {config->model.model};
  const std::shared_ptr<const server::LoadedModel> model =
      server::MakeLoadedModel(std::move(serving), std::move(names), config->model.server.api);

  Lines lines(input);
  for (int64_t i = 0; i < outcome.taken_up; ++i) {
    if (const auto line = lines.Next(); !line) return Unexpected(line.error());
  }
  serving::ProgressBar bar("Answering", config->model.progress_bar, serving::ProgressBar::Unit::kRequests);
  BatchJob job(model, config->model.server.fingerprint);
  running->Set(&job);
  const Status status =
      job.Run([&] { return lines.Next(); }, [&](const std::string& line) { return output.Write(line); },
              stop, [&](const BatchJob::Counts& counts) {
                outcome.counts = counts;
                bar.Update(outcome.taken_up + counts.done, total);
              });
  running->Set(nullptr);
  if (!status.ok()) return Unexpected(status);
  return outcome;
}

int RunBatch(BatchConfig config, const Environ& environ) {
  std::atomic<bool> stop{false};
  Wakeable running;
  int stopped_by = 0;
  const SignalWatcher watcher([&](int signal, int count) {
    if (count > 1) std::_Exit(128 + signal);
    stopped_by = signal;
    stop = true;
    if (running.Wake()) return;
    // What else there is waits without a look at `stop`: for a pipe's other end, for a model to load.
    LOG_WARNING("stopped while no request is running");
    std::_Exit(128 + signal);
  });
  net::HttpClient client(net::HttpClientOptions::FromEnviron(environ));
  const auto output = FindOutput(config.places);
  if (!output) return LoggedFailure(output.error());
  InputFile input;
  if (const Status status = TakeInput(config.places, &client, stop, &input); !status.ok()) return LoggedFailure(status);
  const auto partial = PartialPath(config, input, *output);
  if (!partial) return LoggedFailure(partial.error());
  const auto outcome = Answer(&config, input, *partial, environ, stop, &running);
  if (stop) {
    LOG_WARNING("stopped; the same command goes on where it was ({})", *partial);
    return 128 + stopped_by;
  }
  if (!outcome) return LoggedFailure(outcome.error());
  if (const Status status = Deliver(*partial, *output, &client); !status.ok()) return LoggedFailure(status);
  LOG_INFO("{} requests answered{}, {} of them with an error: {}", outcome->counts.done,
           outcome->taken_up > 0 ? fmt::format(" ({} before)", outcome->taken_up) : "",
           outcome->counts.failed, config.places.output);
  return kExitOk;
}

}  // namespace

CommandText DescribeRunBatch() { return {kRunBatchHelp, BatchTable()}; }

int RunRunBatch(const std::vector<std::string>& words) {
  auto options = ParseOptions(BatchTable(), words, 1);
  if (!options) return UsageError(kRunBatchHelp, "tiercel run-batch", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(BatchTable(), kRunBatchHelp, options->help_topic()).c_str(), stdout);
    return kExitOk;
  }
  const Environ environ = ReadEnviron();
  auto config = MakeBatchConfig(*options, environ);
  if (!config) return UsageError(kRunBatchHelp, "tiercel run-batch", config.error().message());
  InitLogging(config->model.log_level);
  for (const std::string& warning : config->model.warnings) LOG_WARNING("{}", warning);
  return RunBatch(std::move(*config), environ);
}

}  // namespace tiercel::tools
