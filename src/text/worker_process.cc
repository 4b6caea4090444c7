#include "text/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "text/template_worker.h"

namespace tiercel::text {
namespace {

// What loading a program may need, and the time zone. No keys, and no allocator of LD_PRELOAD.
constexpr const char* kPassedOn[] = {"LD_LIBRARY_PATH", "TZ"};

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

std::vector<std::string> Environment() {
  std::vector<std::string> entries;
  for (const char* name : kPassedOn) {
    if (const char* value = std::getenv(name)) entries.push_back(fmt::format("{}={}", name, value));
  }
  return entries;
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Errors are errno's.
int Spawn(std::vector<std::string> command, int socket, pid_t* pid) {
  // What may find no memory comes before what has to be given back.
  std::vector<std::string> environment = Environment();
  const auto arguments = Pointers(command), variables = Pointers(environment);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  if (const int error = ::posix_spawn_file_actions_init(&files)) return error;
  if (const int error = ::posix_spawnattr_init(&attributes)) {
    ::posix_spawn_file_actions_destroy(&files);
    return error;
  }
  // The socket first: it may lie where /dev/null goes. All other files close on exec or, if somebody
  // opened them without that, at the worker's start.
  ::posix_spawn_file_actions_adddup2(&files, socket, kTemplateWorkerFd);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    ::posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
  }
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
  const int error = ::posix_spawn(pid, command[0].c_str(), &files, &attributes, arguments.data(),
                                  variables.data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  return error;
}

}  // namespace

Expected<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(
    const std::vector<std::string>& command, int timeout_s) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Unexpected(Unavailable("{}: cannot be started: {}", command[0], std::strerror(errno)));
  }
  Fd ours(ends[0]), theirs(ends[1]);
  const timeval timeout{.tv_sec = timeout_s, .tv_usec = 0};
  ::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  ::setsockopt(ours.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  pid_t pid = 0;
  if (const int error = Spawn(command, theirs.get(), &pid)) {
    return Unexpected(Unavailable("{}: cannot be started: {}", command[0], std::strerror(error)));
  }
  return std::unique_ptr<WorkerProcess>(new WorkerProcess(ours.release(), pid));
}

WorkerProcess::~WorkerProcess() { End(); }

bool WorkerProcess::IsConnected() const {
  pollfd state{.fd = fd_, .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) == 0;  // a hang-up is always reported
}

WorkerProcess::Ending WorkerProcess::End() {
  if (fd_ < 0) return {};
  // One that ends by itself keeps its own reason.
  ::kill(pid_, SIGKILL);
  ::close(std::exchange(fd_, -1));
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) return {};  // someone else has reaped it
  }
  return {.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
          .exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0};
}

}  // namespace tiercel::text
