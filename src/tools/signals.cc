#include "tools/signals.h"

#include <csignal>
#include <pthread.h>

namespace tiercel::tools {
namespace {

// Ends the watcher: no one else sends it to its thread.
constexpr int kStop = SIGUSR1;

sigset_t Watched() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, kStop}) sigaddset(&set, signal);
  return set;
}

}  // namespace

SignalWatcher::SignalWatcher(std::function<void(int, int)> on_signal) {
  const sigset_t set = Watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([set, on_signal = std::move(on_signal)] {
    for (int count = 1, signal = 0; sigwait(&set, &signal) == 0 && signal != kStop; ++count) {
      on_signal(signal, count);
    }
  });
}

SignalWatcher::~SignalWatcher() {
  pthread_kill(thread_.native_handle(), kStop);
  thread_.join();
}

}  // namespace tiercel::tools
