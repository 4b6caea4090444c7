// Interrupt: Ctrl-C as a flag, for commands that then say what they have.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdlib>

#include "tools/signals.h"

namespace tiercel::tools {

// Construct it before any other thread. The first signal sets the flag, if somebody looks at it by
// then; another one, or one before, ends the process.
class Interrupt {
 public:
  static constexpr int kExitCode = 128 + SIGINT;

  Interrupt() : watcher_([this](int signal, int count) { OnSignal(signal, count); }) {}

  // From here on the flag is looked at.
  const std::atomic<bool>* Watch() {
    watched_ = true;
    return &stop_;
  }
  bool stopped() const { return stop_; }

 private:
  void OnSignal(int signal, int count) {
    if (count > 1 || !watched_) std::_Exit(128 + signal);
    stop_ = true;
  }

  std::atomic<bool> watched_ = false, stop_ = false;
  SignalWatcher watcher_;  // last: its thread uses the others
};

}  // namespace tiercel::tools
