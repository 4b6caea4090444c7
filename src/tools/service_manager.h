// What a service manager (systemd, Type=notify) is told: sd_notify's protocol, lines of NAME=value in
// a datagram to the Unix socket that NOTIFY_SOCKET names.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "base/environ.h"
#include "base/status.h"

namespace tiercel::tools {

// Says nothing where no one asked to be told. Any thread may call; a call never waits: what the
// manager has no room for is lost.
class ServiceManager {
 public:
  // Fails if NOTIFY_SOCKET is no address of a Unix socket.
  static Expected<ServiceManager> FromEnviron(const Environ& environ);
  ~ServiceManager();
  ServiceManager(ServiceManager&& other) noexcept;
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  bool listens() const { return fd_ >= 0; }
  void Ready(const std::string& status) const;     // requests are answered from now on
  void Stopping(const std::string& status) const;  // the end has begun
  // Still starting: `status` shows, and the limit on the time until Ready is `seconds` from now.
  void Starting(const std::string& status, int seconds) const;

 private:
  ServiceManager(int fd, std::string address) : fd_(fd), address_(std::move(address)) {}
  void Send(const std::string& lines) const;

  int fd_;  // -1: no one asked
  std::string address_;
};

// From construction to destruction says again and again that the program is starting: how long a
// model takes to load is known to none of the two.
class StartingSignal {
 public:
  StartingSignal(const ServiceManager* manager, std::string status);
  ~StartingSignal();
  StartingSignal(const StartingSignal&) = delete;
  StartingSignal& operator=(const StartingSignal&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable end_;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace tiercel::tools
