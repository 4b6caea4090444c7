// BlockedSignals: writes that fail answer with an error instead of ending the process.
#pragma once

#include <pthread.h>

#include <csignal>
#include <ctime>

namespace tiercel::net {

// For the calling thread and while it lives: a peer that has gone (SIGPIPE) and a file that may
// grow no more (SIGXFSZ) do not end the process. Both signals come to the thread that writes; what
// comes is taken back at the end. No process-wide setting changes.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGPIPE);
    sigaddset(&set_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
  }
  ~BlockedSignals() {
    const timespec at_once{};
    while (sigtimedwait(&set_, nullptr, &at_once) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t set_, before_;
};

}  // namespace tiercel::net
