// SIGINT and SIGTERM as calls on a thread of their own.
#pragma once

#include <functional>
#include <thread>

namespace tiercel::tools {

// Blocks both signals for the calling thread and all that it starts, so construct it before any
// other thread. `on_signal`(signal, how many so far, 1 for the first) runs on the watcher's thread.
class SignalWatcher {
 public:
  explicit SignalWatcher(std::function<void(int signal, int count)> on_signal);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  std::thread thread_;
};

}  // namespace tiercel::tools
