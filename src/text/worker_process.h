// WorkerProcess: a child process and the socket to it. One thread at a time.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "base/status.h"

namespace tiercel::text {

class WorkerProcess {
 public:
  // Starts `command` (a program and its words) with the socket as its only file beside /dev/null, an
  // empty environment but for what the program needs to be loaded, and a process group of its own, so
  // that a terminal's signals are not for it. The starting process is not copied, however large.
  // `timeout_s` bounds every wait for the child.
  static Expected<std::unique_ptr<WorkerProcess>> Start(const std::vector<std::string>& command,
                                                        int timeout_s);
  ~WorkerProcess();  // kills it
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  int fd() const { return fd_; }
  // False once the child has closed the socket.
  bool IsConnected() const;

  struct Ending {
    int signal = 0;     // that ended it, or 0
    int exit_code = 0;
  };
  // Ends the child if it still runs, and says how it ended. Once.
  Ending End();

 private:
  WorkerProcess(int fd, pid_t pid) : fd_(fd), pid_(pid) {}

  int fd_;
  pid_t pid_;
};

}  // namespace tiercel::text
