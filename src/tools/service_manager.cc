#include "tools/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace tiercel::tools {
namespace {

// A tick may come late on a busy machine: the limit is several of them.
constexpr std::chrono::seconds kTick{5};
constexpr int kLimitSeconds = 60;

// STATUS= ends with its line.
std::string OneLine(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

Expected<ServiceManager> ServiceManager::FromEnviron(const Environ& environ) {
  std::string address = EnvValue(environ, "NOTIFY_SOCKET");
  if (address.empty()) return ServiceManager(-1, "");
  if ((address[0] != '/' && address[0] != '@') || address.size() < 2 ||
      address.size() >= sizeof(sockaddr_un::sun_path)) {
    return Unexpected(InvalidArgument(
        "NOTIFY_SOCKET: '{}' is no Unix socket: expected /path or @name of at most {} bytes", address,
        sizeof(sockaddr_un::sun_path) - 1));
  }
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Unexpected(Unavailable("NOTIFY_SOCKET: no socket: {}", std::strerror(errno)));
  if (address[0] == '@') address[0] = '\0';  // an abstract one
  return ServiceManager(fd, std::move(address));
}

ServiceManager::ServiceManager(ServiceManager&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), address_(std::move(other.address_)) {}

ServiceManager::~ServiceManager() {
  if (fd_ >= 0) ::close(fd_);
}

void ServiceManager::Ready(const std::string& status) const {
  Send(fmt::format("READY=1\nSTATUS={}\n", OneLine(status)));
}

void ServiceManager::Stopping(const std::string& status) const {
  Send(fmt::format("STOPPING=1\nSTATUS={}\n", OneLine(status)));
}

void ServiceManager::Starting(const std::string& status, int seconds) const {
  Send(fmt::format("STATUS={}\nEXTEND_TIMEOUT_USEC={}000000\n", OneLine(status), seconds));
}

void ServiceManager::Send(const std::string& lines) const {
  if (fd_ < 0) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::copy(address_.begin(), address_.end(), to.sun_path);
  // A manager that is gone or busy is no reason to stop, and there is no one to tell.
  (void)::sendto(fd_, lines.data(), lines.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&to),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size()));
}

StartingSignal::StartingSignal(const ServiceManager* manager, std::string status)
    : thread_([this, manager, status = std::move(status)] {
        std::unique_lock lock(mutex_);
        do {
          manager->Starting(status, kLimitSeconds);
        } while (!end_.wait_for(lock, kTick, [this] { return ended_; }));
      }) {}

StartingSignal::~StartingSignal() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  end_.notify_one();
  thread_.join();
}

}  // namespace tiercel::tools
