// tiercel run-batch: the requests of an OpenAI batch file, without a server.
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "base/log.h"
#include "hub/cache.h"
#include "net/http_client.h"
#include "serving/model_path.h"
#include "serving/progress_bar.h"
#include "serving/serving_model.h"
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
    {"--input-file -i", Kind::kString, "", Effect::kUsed, "A file, or an http or https URL, of requests."},
    {"--output-file -o", Kind::kString, "", Effect::kUsed,
     "A file for the answers, or an http or https URL to PUT them to."},
    {"--output-tmp-dir", Kind::kString, "", Effect::kUsed,
     "Where files lie meanwhile whose input or output is a URL. Default: the system's folder for temporary "
     "files."},
    {"--enable-metrics", Kind::kFlag, "", Effect::kNone, "There is no server to ask for metrics."},
    {"--url", Kind::kString, "0.0.0.0", Effect::kNone, "There is no server to ask for metrics."},
};

const OptionTable& BatchTable() {
  static const OptionTable table = WithServeOptions({{"run-batch", "Of tiercel run-batch.", kBatchOptions}});
  return table;
}

struct BatchConfig {
  serving::ServeConfig model;
  std::string input, output, folder;
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
  config.input = options.String("input-file");
  config.output = options.String("output-file");
  config.folder = options.String("output-tmp-dir");
  std::error_code error;
  if (config.folder.empty()) config.folder = fs::temp_directory_path(error);
  if (config.folder.empty()) config.folder = "/tmp";
  return config;
}

bool IsUrl(const std::string& place) {
  return place.starts_with("http://") || place.starts_with("https://");
}

Status FileError(const std::string& path, std::string_view what) {
  return FailedPrecondition("{}: {}: {}", path, what, std::strerror(errno));
}

// A file that goes when this does, if it is one of ours.
struct InputFile {
  std::string path;
  bool is_ours = false;
  ~InputFile() {
    std::error_code error;
    if (is_ours) fs::remove(path, error);
  }
};

Status FetchInput(const BatchConfig& config, net::HttpClient* client, const std::atomic<bool>& stop,
                  InputFile* input) {
  if (!IsUrl(config.input)) {
    input->path = config.input;
    if (!fs::exists(input->path)) return NotFound("argument --input-file: {}: no such file", input->path);
    return OkStatus();
  }
  input->path = config.folder + "/tiercel-batch-XXXXXX";
  const int fd = ::mkstemp(input->path.data());
  if (fd < 0) return FileError(input->path, "cannot be made");
  input->is_ours = true;
  std::FILE* const file = ::fdopen(fd, "w");
  bool written = file != nullptr;
  net::HttpRequestSpec request;
  request.url = config.input;
  request.stop = &stop;
  const auto response = client->Send(request, [&](std::string_view piece) {
    written = written && std::fwrite(piece.data(), 1, piece.size(), file) == piece.size();
    return written;
  });
  written = written && std::fflush(file) == 0;
  const Status status = written ? OkStatus() : FileError(input->path, "cannot be written");
  if (file != nullptr) std::fclose(file);
  RETURN_IF_ERROR(status);
  if (!response) return response.error();
  if (response->status != 200) {
    return FailedPrecondition("argument --input-file: {} answers {}", config.input, response->status);
  }
  return OkStatus();
}

// Large enough for what a batch is, and what a string of it takes is there.
constexpr int64_t kMaxUploadBytes = int64_t{4} << 30;

Status Upload(const std::string& path, const std::string& url, net::HttpClient* client) {
  std::error_code error;
  const auto size = static_cast<int64_t>(fs::file_size(path, error));
  const auto kept = [&](const Status& status) {
    return Status(status.code(), fmt::format("argument --output-file: {}: {}; the answers lie in {}", url,
                                             status.message(), path));
  };
  if (error) return FileError(path, "cannot be read");
  if (size > kMaxUploadBytes) {
    return kept(FailedPrecondition("found {} bytes to send, at most {} are sent", size, kMaxUploadBytes));
  }
  net::HttpRequestSpec request;
  request.method = "PUT";
  request.url = url;
  request.headers = {{"Content-Type", "application/jsonl"}};
  request.body.resize(static_cast<size_t>(size));
  std::ifstream file(path, std::ios::binary);
  if (!file.read(request.body.data(), size)) return FileError(path, "cannot be read");
  const auto response = client->Send(request);
  if (!response) return kept(response.error());
  if (response->status < 200 || response->status >= 300) {
    return kept(FailedPrecondition("answers {}", response->status));
  }
  fs::remove(path, error);
  return OkStatus();
}

// Where the answers are collected: a name that only the same input with the same flags has.
Expected<std::string> PartialPath(const BatchConfig& config, const std::string& input) {
  ASSIGN_OR_RETURN(const std::string sha, hub::Sha256OfFile(input));
  const std::string base = IsUrl(config.output) ? config.folder + "/tiercel-batch" : config.output;
  return fmt::format("{}.{}-{}.partial", base, sha.substr(0, 16), serving::ShortHash(config.model.non_default_args));
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
  explicit Lines(const std::string& path) : path_(path), file_(path, std::ios::binary) {}

  Expected<std::optional<std::string>> Next() {
    std::string line;
    while (Read(&line)) {
      if (line.size() > kMaxLineBytes) {
        return Unexpected(InvalidArgument("argument --input-file: {}: line {}: found more than {} bytes",
                                          path_, number_, kMaxLineBytes));
      }
      if (line.find_first_not_of(" \t\r") != std::string::npos) return line;
    }
    if (!file_.is_open() || file_.bad()) return Unexpected(FileError(path_, "cannot be read"));
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

  const std::string path_;
  std::ifstream file_;
  int64_t number_ = 0;
};

Expected<int64_t> CountLines(const std::string& path) {
  Lines lines(path);
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
  void Wake() {
    const std::lock_guard lock(mutex_);
    if (job_ != nullptr) job_->Wake();
  }

 private:
  std::mutex mutex_;
  BatchJob* job_ = nullptr;
};

struct Outcome {
  BatchJob::Counts counts;
  int64_t taken_up = 0;
};

Expected<Outcome> Answer(BatchConfig* config, const std::string& input, const std::string& partial,
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
    running.Wake();
  });
  net::HttpClient client(net::HttpClientOptions::FromEnviron(environ));
  InputFile input;
  if (const Status status = FetchInput(config, &client, stop, &input); !status.ok()) return LoggedFailure(status);
  const auto partial = PartialPath(config, input.path);
  if (!partial) return LoggedFailure(partial.error());
  const auto outcome = Answer(&config, input.path, *partial, environ, stop, &running);
  if (stop) {
    LOG_WARNING("stopped; the same command goes on where it was ({})", *partial);
    return 128 + stopped_by;
  }
  if (!outcome) return LoggedFailure(outcome.error());
  if (IsUrl(config.output)) {
    if (const Status status = Upload(*partial, config.output, &client); !status.ok()) return LoggedFailure(status);
  } else if (std::rename(partial->c_str(), config.output.c_str()) != 0) {
    return LoggedFailure(FileError(config.output, "cannot be written"));
  }
  LOG_INFO("{} requests answered{}, {} of them with an error: {}", outcome->counts.done,
           outcome->taken_up > 0 ? fmt::format(" ({} before)", outcome->taken_up) : "",
           outcome->counts.failed, config.output);
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
