// The commands of a sweep as processes: a server that runs until the sweep has done with it, and commands that run to
// their end.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <string>
#include <vector>

#include "base/status.h"

namespace tiercel::tools {

// Runs it to its end. Once *stop is set, which Ctrl-C on a terminal tells the command as well, it is interrupted:
// kCancelled. `show`: its standard output is shown. Not 0 at its end is an error, which names the command.
Status RunCommand(const std::vector<std::string>& command, bool show, const std::atomic<bool>* stop);

// A server in a session of its own, with VLLM_SERVER_DEV_MODE=1 so that its caches can be reset. It gets SIGTERM when this
// goes, and SIGKILL if it has not ended 15 seconds later, with all of its session's group.
class SweepServer {
 public:
  static Expected<SweepServer> Start(const std::vector<std::string>& command, bool show);
  SweepServer(SweepServer&& other) noexcept;
  SweepServer& operator=(SweepServer&&) = delete;
  ~SweepServer();

  // Until /health answers; an error if it ends or takes longer.
  Status WaitUntilReady(double timeout_s, const std::atomic<bool>* stop);
  Status ResetCaches();

  // Whether ResetCaches knows how: the program's name is vllm or tiercel.
  static bool CanResetCaches(const std::vector<std::string>& command);

 private:
  SweepServer(pid_t process, std::string url) : process_(process), url_(std::move(url)) {}

  pid_t process_;  // −1: not ours any more
  const std::string url_;
};

}  // namespace tiercel::tools
