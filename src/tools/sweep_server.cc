#include "tools/sweep_server.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "net/http_client.h"

namespace tiercel::tools {
namespace {

constexpr double kPollInterval = 0.05;
constexpr double kGrace = 15;  // from SIGTERM to SIGKILL

void Sleep() { std::this_thread::sleep_for(Seconds(kPollInterval)); }

struct SpawnOptions {
  bool show = false;     // standard output
  bool session = false;  // of its own
  std::vector<std::string> environ;  // beside that of this process, and before it
};

Expected<pid_t> Spawn(const std::vector<std::string>& command, const SpawnOptions& options) {
  std::vector<char*> words, variables;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  for (const std::string& variable : options.environ) variables.push_back(const_cast<char*>(variable.c_str()));
  for (char** variable = ::environ; *variable != nullptr; ++variable) variables.push_back(*variable);
  variables.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  if (!options.show) ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  // This process watches signals on a thread and blocks them in all others.
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (options.session) flags |= POSIX_SPAWN_SETSID;
  ::posix_spawnattr_setflags(&attributes, static_cast<short>(flags));
  pid_t process = -1;
  const int error = ::posix_spawnp(&process, words[0], &files, &attributes, words.data(), variables.data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) return Unexpected(FailedPrecondition("{}: cannot be run: {}", command[0], std::strerror(error)));
  return process;
}

// The status of waitpid once it has ended.
std::optional<int> Ended(pid_t process) {
  int status = 0;
  return ::waitpid(process, &status, WNOHANG) == process ? std::optional<int>(status) : std::nullopt;
}

std::string Describe(int status) {
  return WIFSIGNALED(status) ? fmt::format("was ended by signal {}", WTERMSIG(status))
                             : fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

// "--port 8000" or "--port=8000", of the last that is there.
std::string ValueOf(const std::vector<std::string>& command, std::initializer_list<std::string_view> flags,
                    std::string value) {
  for (size_t i = 0; i < command.size(); ++i) {
    for (const std::string_view flag : flags) {
      if (command[i] == flag && i + 1 < command.size()) value = command[i + 1];
      if (command[i].starts_with(std::string(flag) + "=")) value = command[i].substr(flag.size() + 1);
    }
  }
  return value;
}

std::string_view ProgramName(const std::vector<std::string>& command) {
  const std::string_view path = command[0];
  return path.substr(path.rfind('/') + 1);
}

net::HttpClient Client() {
  net::HttpClientOptions options;
  options.connect_timeout_s = 5;
  options.stall_timeout_s = 30;
  return net::HttpClient(options);
}

}  // namespace

Status RunCommand(const std::vector<std::string>& command, bool show, const std::atomic<bool>* stop) {
  ASSIGN_OR_RETURN(const pid_t process, Spawn(command, {.show = show, .session = false, .environ = {}}));
  bool interrupted = false;
  while (true) {
    if (const auto status = Ended(process)) {
      if (stop->load()) return Status(StatusCode::kCancelled, "stopped");
      if (WIFEXITED(*status) && WEXITSTATUS(*status) == 0) return OkStatus();
      return FailedPrecondition("{} {}", command[0], Describe(*status));
    }
    if (stop->load() && !interrupted) {
      ::kill(process, SIGINT);
      interrupted = true;
    }
    Sleep();
  }
}

bool SweepServer::CanResetCaches(const std::vector<std::string>& command) {
  return ProgramName(command) == "vllm" || ProgramName(command) == "tiercel";
}

Expected<SweepServer> SweepServer::Start(const std::vector<std::string>& command, bool show) {
  std::string host = ValueOf(command, {"--host"}, "localhost");
  if (host.find(':') != std::string::npos && !host.starts_with('[')) host = "[" + host + "]";
  const std::string url = fmt::format("http://{}:{}", host, ValueOf(command, {"-p", "--port"}, "8000"));
  ASSIGN_OR_RETURN(const pid_t process,
                   Spawn(command, {.show = show, .session = true, .environ = {"VLLM_SERVER_DEV_MODE=1"}}));
  return SweepServer(process, url);
}

SweepServer::SweepServer(SweepServer&& other) noexcept
    : process_(std::exchange(other.process_, -1)), url_(other.url_) {}

SweepServer::~SweepServer() {
  if (process_ < 0) return;
  ::kill(-process_, SIGTERM);
  const SteadyClock clock;
  const double begin = clock.Now();
  bool killed = false;
  while (!Ended(process_)) {
    if (!killed && clock.Now() - begin > kGrace) {
      ::kill(-process_, SIGKILL);
      killed = true;
    }
    Sleep();
  }
  ::kill(-process_, SIGKILL);  // what it may have left behind
}

Status SweepServer::WaitUntilReady(double timeout_s, const std::atomic<bool>* stop) {
  const SteadyClock clock;
  const double begin = clock.Now();
  net::HttpClient client = Client();
  while (true) {
    if (stop->load()) return Status(StatusCode::kCancelled, "stopped");
    if (const auto status = Ended(process_)) {
      process_ = -1;
      return FailedPrecondition("the server {} before it was ready (--show-stdout shows what it says)",
                                Describe(*status));
    }
    if (const auto response = client.Get(url_ + "/health"); response && response->status == 200) return OkStatus();
    if (clock.Now() - begin > timeout_s) {
      return Unavailable("{}/health: the server was not ready after {} s (--server-ready-timeout)", url_, timeout_s);
    }
    Sleep();
  }
}

Status SweepServer::ResetCaches() {
  net::HttpClient client = Client();
  for (const char* route : {"/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"}) {
    ASSIGN_OR_RETURN(const net::HttpResponse response, client.PostJson(url_ + route, ""));
    // A server without such a cache has no such route.
    if (response.status != 200 && response.status != 404) {
      return Unavailable("{}{}: HTTP {}", url_, route, response.status);
    }
  }
  return OkStatus();
}

}  // namespace tiercel::tools
