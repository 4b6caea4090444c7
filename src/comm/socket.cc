#include "comm/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "base/clock.h"

namespace tiercel::comm {
namespace {

constexpr int kPollMs = 100;

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Expected<Addresses> Resolve(const std::string& address, int port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (error != 0) return Unexpected(Unavailable("{}: {}", address, ::gai_strerror(error)));
  return Addresses(list);
}

Status Fail(const std::string& address, int port) {
  return Unavailable("{}:{}: {}", address, port, std::strerror(errno));
}

void SetOption(int fd, int level, int name, int value) { ::setsockopt(fd, level, name, &value, sizeof(value)); }

// Waits for `events`; false when the deadline is over.
bool WaitFor(int fd, short events, const Deadline& deadline) {
  while (!deadline.over()) {
    pollfd one{fd, events, 0};
    if (::poll(&one, 1, deadline.PollMs()) > 0) return true;
  }
  return false;
}

// One attempt.
Expected<Socket> TryConnect(const addrinfo& address, const Deadline& deadline) {
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return Unexpected(Unavailable("{}", std::strerror(errno)));
  if (::connect(socket.fd(), address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS) {
    return Unexpected(Unavailable("{}", std::strerror(errno)));
  }
  if (!WaitFor(socket.fd(), POLLOUT, deadline)) return Unexpected(Unavailable("no answer"));
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return Unexpected(Unavailable("{}", std::strerror(error)));
  return socket;
}

Expected<Endpoint> EndOf(const sockaddr_storage& storage, socklen_t size) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  const int error = ::getnameinfo(reinterpret_cast<const sockaddr*>(&storage), size, host, sizeof(host), port,
                                  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
  if (error != 0) return Unexpected(Unavailable("{}", ::gai_strerror(error)));
  return Endpoint{host, std::stoi(port)};
}

Expected<Endpoint> NameOf(const Socket& socket, int (*name)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  if (name(socket.fd(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
    return Unexpected(Unavailable("{}", std::strerror(errno)));
  }
  return EndOf(storage, size);
}

// Moves bytes by `call`, ::send or ::recv, until there are none left.
template <typename Call>
Status Move(const Socket& socket, short events, size_t bytes, const Deadline& deadline, Call call) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t moved = call(done);
    if (moved > 0) {
      done += static_cast<size_t>(moved);
    } else if (moved == 0 || (errno != EAGAIN && errno != EINTR)) {
      return Unavailable("{}", moved == 0 ? "it closed the connection" : std::strerror(errno));
    } else if (!WaitFor(socket.fd(), events, deadline)) {
      return Unavailable("no answer in time");
    }
  }
  return OkStatus();
}

}  // namespace

void Socket::Close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Deadline::Deadline(double seconds, const std::atomic<bool>* cancelled)
    : end_(SteadyClock().Now() + seconds), cancelled_(cancelled) {}

int Deadline::PollMs() const {
  if (cancelled()) return 0;
  const double left = (end_ - SteadyClock().Now()) * 1e3;
  return left <= 0 ? 0 : std::clamp(static_cast<int>(left), 1, kPollMs);
}

Expected<Socket> Listen(const std::string& address, int port) {
  ASSIGN_OR_RETURN(const Addresses list, Resolve(address, port, AI_PASSIVE));
  Socket socket(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return Unexpected(Fail(address, port));
  SetOption(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (::bind(socket.fd(), list->ai_addr, list->ai_addrlen) != 0 || ::listen(socket.fd(), SOMAXCONN) != 0) {
    return Unexpected(Fail(address, port));
  }
  return socket;
}

Expected<Socket> Accept(const Socket& listener, const Deadline& deadline) {
  while (WaitFor(listener.fd(), POLLIN, deadline)) {
    Socket socket(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.is_open()) return socket;
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
      return Unexpected(Unavailable("accept: {}", std::strerror(errno)));
    }
  }
  return Socket();
}

Expected<Socket> Connect(const std::string& address, int port, const Deadline& deadline) {
  Status last = Unavailable("no attempt");
  while (!deadline.over()) {
    if (auto list = Resolve(address, port, 0)) {
      for (const addrinfo* each = list->get(); each != nullptr; each = each->ai_next) {
        auto socket = TryConnect(*each, deadline);
        if (socket) return socket;
        last = std::move(socket.error());
      }
    } else {
      last = std::move(list.error());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(std::min(kPollMs, deadline.PollMs())));
  }
  return Unexpected(Unavailable("{}:{}: {}", address, port, last.message()));
}

Expected<Endpoint> LocalEnd(const Socket& socket) { return NameOf(socket, ::getsockname); }
Expected<Endpoint> OtherEnd(const Socket& socket) { return NameOf(socket, ::getpeername); }

Status SendAll(const Socket& socket, const void* data, size_t bytes, const Deadline& deadline) {
  const auto* const from = static_cast<const char*>(data);
  return Move(socket, POLLOUT, bytes, deadline,
              [&](size_t done) { return ::send(socket.fd(), from + done, bytes - done, MSG_NOSIGNAL); });
}

Status ReceiveAll(const Socket& socket, void* data, size_t bytes, const Deadline& deadline) {
  auto* const to = static_cast<char*>(data);
  return Move(socket, POLLIN, bytes, deadline,
              [&](size_t done) { return ::recv(socket.fd(), to + done, bytes - done, 0); });
}

void PrepareForMessages(const Socket& socket) {
  constexpr int kIdleSeconds = 5, kProbes = 3;
  SetOption(socket.fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(socket.fd(), SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(socket.fd(), IPPROTO_TCP, TCP_KEEPIDLE, kIdleSeconds);
  SetOption(socket.fd(), IPPROTO_TCP, TCP_KEEPINTVL, kIdleSeconds);
  SetOption(socket.fd(), IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  SetOption(socket.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, (1 + kProbes) * kIdleSeconds * 1000);
}

}  // namespace tiercel::comm
