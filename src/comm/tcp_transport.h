// A Transport over TCP: a connection between each two processes. Nothing is encrypted, and who reaches the first
// process's port while it waits for the others can take a place among them: it is for networks of one's own.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "comm/transport.h"

namespace tiercel::comm {

struct TcpOptions {
  Process process;
  std::string address = "127.0.0.1";  // the first process's: a name or a number
  int port = 29501;
  double timeout_seconds = 600;  // for all to come, and then for each part of a step
  const std::atomic<bool>* cancelled = nullptr;  // once true, the wait for the others ends
};

// Returns when every process is connected to every other.
Expected<std::unique_ptr<Transport>> ConnectTcp(const TcpOptions& options);

}  // namespace tiercel::comm
