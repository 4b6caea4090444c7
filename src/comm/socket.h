// Sockets of the TCP transport: blocking calls with an end in time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/status.h"

namespace tiercel::comm {

// Owns a file descriptor.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { Close(); }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void Close();

 private:
  int fd_ = -1;
};

// Until when calls wait: a moment of the steady clock, or until it is cancelled.
class Deadline {
 public:
  explicit Deadline(double seconds, const std::atomic<bool>* cancelled = nullptr);
  // Milliseconds to poll for, at most 100, so that cancelling is seen; 0: it is over.
  int PollMs() const;
  bool over() const { return PollMs() == 0; }
  bool cancelled() const { return cancelled_ != nullptr && *cancelled_; }

 private:
  double end_;
  const std::atomic<bool>* cancelled_;
};

// A place in the network, as numbers.
struct Endpoint {
  std::string address;
  int port = 0;
};

// Listens at `address`; port 0: any that is free.
Expected<Socket> Listen(const std::string& address, int port);
// The next connection; not open when the deadline is over.
Expected<Socket> Accept(const Socket& listener, const Deadline& deadline);
// Tries again while nobody listens there.
Expected<Socket> Connect(const std::string& address, int port, const Deadline& deadline);

// Where this end, or the other one, is.
Expected<Endpoint> LocalEnd(const Socket& socket);
Expected<Endpoint> OtherEnd(const Socket& socket);

Status SendAll(const Socket& socket, const void* data, size_t bytes, const Deadline& deadline);
Status ReceiveAll(const Socket& socket, void* data, size_t bytes, const Deadline& deadline);

// For an established connection: small messages go at once, and a machine that has vanished is found.
void PrepareForMessages(const Socket& socket);

}  // namespace tiercel::comm
