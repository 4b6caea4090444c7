// tiercel serve: parse, take the port, load, run until told to stop.
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "kernels/environment.h"
#include "serving/model_path.h"
#include "serving/serve_config.h"
#include "serving/serving_model.h"
#include "serving/version.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/follower.h"
#include "tools/service_manager.h"
#include "tools/signals.h"
#include "tools/span_exporter.h"

namespace tiercel::tools {
namespace {

constexpr CommandHelp kServeHelp = {
    "tiercel serve [model_tag] [options]",
    "Serves a model over the OpenAI API. Flags, their short forms and their abbreviations are those "
    "of `vllm serve`.",
    "positional arguments:\n  model_tag   a folder, a .gguf file, or a hub id such as "
    "Qwen/Qwen3-0.6B (the default)"};

// The first signal drains, the second ends the process at once; while the model is still loading
// the first one does.
class Shutdown {
 public:
  Shutdown(double grace_seconds, const ServiceManager* manager)
      : grace_seconds_(grace_seconds), manager_(manager) {}
  ~Shutdown() {
    if (drain_.joinable()) drain_.join();
  }

  void OnSignal(int signal, int count) {
    const std::lock_guard lock(mutex_);
    const char* name = signal == SIGINT ? "SIGINT" : "SIGTERM";
    manager_->Stopping("Shutting down");
    if (count > 1 || server_ == nullptr) {
      LOG_WARNING("{}: {}", name, count > 1 ? "again, aborting" : "stopping while still loading");
      std::_Exit(count > 1 || signal == SIGINT ? 128 + signal : kExitOk);
    }
    if (has_run_) return;
    LOG_INFO("{}: shutting down, running requests get {} s", name, grace_seconds_);
    drain_ = std::thread([this] { server_->Shutdown(grace_seconds_); });
  }

  void SetServer(server::Server* server) {
    const std::lock_guard lock(mutex_);
    server_ = server;
  }
  // The server has run: nothing asks it for its end any more.
  void ServerHasRun() {
    std::thread drain;
    {
      const std::lock_guard lock(mutex_);
      has_run_ = true;
      drain.swap(drain_);
    }
    if (drain.joinable()) drain.join();
  }

 private:
  const double grace_seconds_;
  const ServiceManager* manager_;
  std::mutex mutex_;
  server::Server* server_ = nullptr;
  bool has_run_ = false;
  std::thread drain_;
};

void LogStart(const serving::ServeConfig& config) {
  LOG_INFO("Tiercel {} ({}), serving {}", TIERCEL_VERSION, TIERCEL_COMPILER, config.model);
  LOG_INFO("non-default args: {}", config.non_default_args);
  for (const std::string& warning : config.warnings) LOG_WARNING("{}", warning);
  if (config.traces) LOG_INFO("Sending traces to {}", config.traces->url);
}

void LogReady(const server::Server& server) {
  LOG_INFO("Available routes are:");
  for (const std::string& line : server.RouteLines()) LOG_INFO("{}", line);
  LOG_INFO("Starting vLLM server on {}", server.url());
  LOG_INFO("Application startup complete.");
}

int Serve(serving::ServeConfig config, const Environ& environ) {
  const double start = SteadyClock().Now();
  const auto manager = ServiceManager::FromEnviron(environ);
  if (!manager) return LoggedFailure(manager.error());
  Shutdown shutdown(config.shutdown_timeout, &*manager);
  const SignalWatcher watcher([&](int signal, int count) { shutdown.OnSignal(signal, count); });
  server::RaiseFileLimit();
  std::optional<SpanExporter> spans;  // outlives the server
  if (config.traces) {
    spans.emplace(*config.traces, net::HttpClientOptions::FromEnviron(environ));
    config.server.spans = &*spans;
  }
  kernels::Environments environments;  // outlive the engines, which the server has
  auto server = server::Server::Bind(config.server);
  if (!server) return LoggedFailure(server.error());
  LogStart(config);
  std::optional<StartingSignal> starting;
  if (manager->listens()) starting.emplace(&*manager, "Loading " + config.model);

  auto path = serving::FindModel(config.model, config.hub, environ);
  if (!path) return LoggedFailure(path.error());
  if (const Status status = serving::JoinJob(&config, nullptr); !status.ok()) return LoggedFailure(status);
  auto created = kernels::CreateEnvironments(config.environment);
  if (!created) return LoggedFailure(created.error());
  environments = *std::move(created);
  auto serving = serving::LoadServingModel(&config, *path, environ, environments);
  if (!serving) return LoggedFailure(serving.error());
  if (const Status status = (*server)->SetModel(std::move(*serving)); !status.ok()) {
    return LoggedFailure(status);
  }
  shutdown.SetServer(server->get());
  starting.reset();
  LogReady(**server);
  manager->Ready("Serving " + config.model);
  LOG_INFO("Ready after {:.2f} s", SteadyClock().Now() - start);

  const Status status = (*server)->Run();
  shutdown.ServerHasRun();
  if (!status.ok()) return LoggedFailure(status);
  LOG_INFO("Stopped");
  return kExitOk;
}

}  // namespace

CommandText DescribeServe() { return {kServeHelp, options::ServeOptionTable()}; }

int RunServe(const std::vector<std::string>& words) {
  auto options = ParseOptions(options::ServeOptionTable(), words, 1);
  if (!options) return UsageError(kServeHelp, "tiercel serve", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(options::ServeOptionTable(), kServeHelp, options->help_topic()).c_str(), stdout);
    return kExitOk;
  }
  const Environ environ = ReadEnviron();
  auto config = serving::MakeServeConfig(*options, environ);
  if (!config) return UsageError(kServeHelp, "tiercel serve", config.error().message());
  if (options->positional().empty() && options->Given("model") && !options->Given("config")) {
    config->warnings.push_back(
        "With `serve`, give the model as the positional argument: --model may be removed");
  }
  InitLogging(config->log_level);
  if (IsFollower(*config)) {
    LogStart(*config);
    return RunFollower(std::move(*config), environ);
  }
  return Serve(std::move(*config), environ);
}

}  // namespace tiercel::tools
