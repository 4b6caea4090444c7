#include "comm/tcp_transport.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "comm/socket.h"
#include "comm/transfer_queue.h"
#include "comm/waiting.h"

namespace tiercel::comm {
namespace {

// What processes say of themselves when they connect; all numbers as this machine has them, since all are x86-64
// or little-endian Arm.
struct Hello {
  static constexpr uint64_t kMagic = 0x314c454352454954;  // "TIERCEL1"

  uint64_t magic = kMagic;
  int32_t index = 0;
  int32_t count = 0;
  int32_t port = 0;  // where it listens for others
  std::array<char, 68> host{};  // the machine's name, cut

  bool is_ours() const { return magic == kMagic; }
};

// A line of the first process's list.
struct Entry {
  std::array<char, 68> host{};
  std::array<char, 64> address{};
  int32_t port = 0;
};

// Before the list: how many lines; or what is wrong, as a text.
struct Welcome {
  int32_t count = 0;
  std::array<char, 252> refusal{};
};

template <size_t N>
void CopyText(const std::string& text, std::array<char, N>* out) {
  out->fill(0);
  std::copy_n(text.data(), std::min(text.size(), N - 1), out->data());
}

template <size_t N>
std::string TextOf(const std::array<char, N>& text) {
  return std::string(text.data(), ::strnlen(text.data(), N));
}

std::string HostName() {
  std::array<char, 68> name{};
  ::gethostname(name.data(), name.size() - 1);
  return TextOf(name);
}

class TcpTransport final : public Transport {
 public:
  TcpTransport(Process process, double timeout_seconds, std::vector<std::string> hosts, std::vector<Socket> sockets)
      : process_(process),
        timeout_seconds_(timeout_seconds),
        hosts_(std::move(hosts)),
        sockets_(std::move(sockets)),
        sends_(sockets_.size()),
        receives_(sockets_.size()) {
    for (const Socket& socket : sockets_) {
      if (socket.is_open()) PrepareForMessages(socket);
    }
  }

  Process process() const override { return process_; }
  std::string NameOf(int process) const override { return DescribeProcess(process, hosts_[static_cast<size_t>(process)]); }

  Status Exchange(std::span<const Transfer> sends, std::span<const Transfer> receives,
                  Patience patience) override {
    if (!error_.ok()) return error_;
    Queue(sends, &sends_);
    Queue(receives, &receives_);
    error_ = Finish(patience, receives_);
    return error_;
  }

  Status Post(std::span<const Transfer> receives) override {
    if (!error_.ok()) return error_;
    if (spare_.empty()) spare_.emplace_back(sockets_.size());
    Queue(receives, &spare_.back());
    posted_.push_back(std::move(spare_.back()));
    spare_.pop_back();
    return OkStatus();
  }

  Status Await() override {
    if (!error_.ok()) return error_;
    CHECK(!posted_.empty());
    error_ = Finish(Patience::kStep, posted_.front());
    spare_.push_back(std::move(posted_.front()));
    posted_.pop_front();
    return error_;
  }

  bool failed() const override { return !error_.ok(); }

  Status Check() const override {
    for (size_t peer = 0; peer < sockets_.size(); ++peer) {
      pollfd one{sockets_[peer].fd(), POLLRDHUP, 0};
      if (::poll(&one, 1, 0) > 0) return Gone(static_cast<int>(peer));
    }
    return OkStatus();
  }

 private:
  using Queues = std::vector<TransferQueue>;  // by process

  static void Queue(std::span<const Transfer> transfers, Queues* queues) {
    for (TransferQueue& queue : *queues) queue.Clear();
    for (const Transfer& transfer : transfers) {
      if (transfer.bytes() > 0) (*queues)[static_cast<size_t>(transfer.peer)].Add(transfer);
    }
  }

  // What is received from it next: what was posted first.
  TransferQueue* ReceivesFrom(size_t peer) {
    for (Queues& posted : posted_) {
      if (!posted[peer].empty()) return &posted[peer];
    }
    return &receives_[peer];
  }

  // Until all is sent, and what is wanted has been received.
  Status Finish(Patience patience, const Queues& wanted) {
    Waiting waiting(patience == Patience::kForever ? -1 : timeout_seconds_);
    while (true) {
      bool moved = false, left = false;
      for (size_t peer = 0; peer < sockets_.size(); ++peer) {
        ASSIGN_OR_RETURN(const bool sent, MoveSome(peer, &sends_[peer], ::sendmsg));
        ASSIGN_OR_RETURN(const bool received, MoveSome(peer, ReceivesFrom(peer), ::recvmsg));
        moved |= sent || received;
        left |= IsLeft(peer, wanted);
      }
      if (!left) return OkStatus();
      if (moved) {
        waiting.Progressed();
      } else if (waiting.MaySpin()) {
        waiting.Spin();
      } else {
        RETURN_IF_ERROR(Sleep(waiting, patience, wanted));
      }
    }
  }

  bool IsLeft(size_t peer, const Queues& wanted) const { return !sends_[peer].empty() || !wanted[peer].empty(); }

  Expected<bool> MoveSome(size_t peer, TransferQueue* queue, ssize_t (*call)(int, msghdr*, int)) {
    if (queue->empty()) return false;
    msghdr message{};
    message.msg_iov = pieces_.data();
    message.msg_iovlen = queue->Pieces(pieces_);
    const ssize_t bytes = call(sockets_[peer].fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (bytes > 0) {
      queue->Moved(bytes);
      return true;
    }
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    return Unexpected(Gone(static_cast<int>(peer)));
  }
  Expected<bool> MoveSome(size_t peer, TransferQueue* queue, ssize_t (*call)(int, const msghdr*, int)) {
    return MoveSome(peer, queue, reinterpret_cast<ssize_t (*)(int, msghdr*, int)>(call));
  }

  // Until something can move, or somebody has gone. Between steps everyone but the first may end before this one does.
  Status Sleep(const Waiting& waiting, Patience patience, const Queues& wanted) {
    std::array<pollfd, kMaxProcesses> fds;
    for (size_t peer = 0; peer < sockets_.size(); ++peer) {
      const int gone = IsLeft(peer, wanted) || patience == Patience::kStep ? POLLRDHUP : 0;
      const int events = gone | (sends_[peer].empty() ? 0 : POLLOUT) | (ReceivesFrom(peer)->empty() ? 0 : POLLIN);
      fds[peer] = {events != 0 ? sockets_[peer].fd() : -1, static_cast<short>(events), 0};
    }
    constexpr int kMs = 100;
    ::poll(fds.data(), sockets_.size(), kMs);
    for (size_t peer = 0; peer < sockets_.size(); ++peer) {
      // Who says its last word and ends may still be read from.
      const bool readable = (fds[peer].events & fds[peer].revents & POLLIN) != 0;
      const bool is_gone = (fds[peer].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
      const bool matters = (fds[peer].events & POLLRDHUP) != 0;
      if (is_gone && matters && !readable) return Gone(static_cast<int>(peer));
    }
    if (!waiting.over()) return OkStatus();
    std::string late;
    for (size_t peer = 0; peer < sockets_.size(); ++peer) {
      if (!IsLeft(peer, wanted)) continue;
      late += (late.empty() ? "" : ", ") + NameOf(static_cast<int>(peer));
    }
    return Late(late, timeout_seconds_);
  }

  Status Gone(int peer) const { return Unavailable("{} has gone: it ended, or its machine cannot be reached", NameOf(peer)); }

  const Process process_;
  const double timeout_seconds_;
  const std::vector<std::string> hosts_;
  const std::vector<Socket> sockets_;  // by process; this one's is not open
  Queues sends_, receives_;
  std::deque<Queues> posted_;   // the oldest first
  std::vector<Queues> spare_;  // of awaited ones
  std::array<iovec, 64> pieces_;
  Status error_;
};

class Connector {
 public:
  explicit Connector(const TcpOptions& options)
      : options_(options), deadline_(options.timeout_seconds, options.cancelled), sockets_(static_cast<size_t>(options.process.count)) {}

  Expected<std::unique_ptr<Transport>> Connect() {
    RETURN_IF_ERROR(options_.process.is_first() ? Gather() : Join());
    std::vector<std::string> hosts;
    for (const Entry& entry : table_) hosts.push_back(TextOf(entry.host));
    return std::make_unique<TcpTransport>(options_.process, options_.timeout_seconds, std::move(hosts),
                                          std::move(sockets_));
  }

 private:
  // The first process waits for all the others, and tells them of each other.
  Status Gather() {
    auto listener = Listen(options_.address, options_.port);
    if (!listener) {
      return Unavailable("argument --master-addr/--master-port: cannot wait for the other processes at {}",
                         listener.error().message());
    }
    table_.resize(sockets_.size());
    CopyText(HostName(), &table_[0].host);
    for (size_t missing = sockets_.size() - 1; missing > 0;) {
      ASSIGN_OR_RETURN(Socket socket, Accept(*listener, deadline_));
      if (!socket.is_open()) return NotAllCame();
      ASSIGN_OR_RETURN(const bool is_new, Greet(std::move(socket)));
      if (is_new) --missing;
    }
    Welcome welcome;
    welcome.count = options_.process.count;
    for (size_t i = 1; i < sockets_.size(); ++i) {
      RETURN_IF_ERROR(Named(SendAll(sockets_[i], &welcome, sizeof(welcome), deadline_), i));
      RETURN_IF_ERROR(Named(SendAll(sockets_[i], table_.data(), table_.size() * sizeof(Entry), deadline_), i));
    }
    return OkStatus();
  }

  // Whether it is one of the job, of whom nobody has come yet. Who says something else is sent away.
  Expected<bool> Greet(Socket socket) {
    constexpr double kPatience = 5;
    const Deadline soon(kPatience, options_.cancelled);
    Hello hello;
    if (!ReceiveAll(socket, &hello, sizeof(hello), soon).ok() || !hello.is_ours()) {
      LOG_WARNING("a connection to port {} is not of another process of this version; closed", options_.port);
      return false;
    }
    const std::string who = DescribeProcess(hello.index, TextOf(hello.host));
    if (hello.count != options_.process.count) {
      return Refuse(socket, fmt::format("{}: found a job of {} processes, expected {}, as the first process has it", who,
                                        hello.count, options_.process.count));
    }
    if (hello.index < 1 || hello.index >= options_.process.count) {
      return Refuse(socket, fmt::format("found {}, expected a number from 1 to {}", who, options_.process.count - 1));
    }
    const auto index = static_cast<size_t>(hello.index);
    if (sockets_[index].is_open()) {
      return Refuse(socket, fmt::format("{}: there is one of this number already", who));
    }
    ASSIGN_OR_RETURN(const Endpoint end, OtherEnd(socket));
    table_[index].host = hello.host;
    CopyText(end.address, &table_[index].address);
    table_[index].port = hello.port;
    sockets_[index] = std::move(socket);
    return true;
  }

  // Tells it, and ends the job: its processes were started with different numbers.
  Expected<bool> Refuse(const Socket& socket, const std::string& why) {
    Welcome welcome;
    CopyText(why, &welcome.refusal);
    (void)SendAll(socket, &welcome, sizeof(welcome), deadline_);
    return Unexpected(InvalidArgument("{}", why));
  }

  Status NotAllCame() {
    if (deadline_.cancelled()) return Status(StatusCode::kCancelled, "waiting for other processes was cancelled");
    std::string missing;
    for (size_t i = 1; i < sockets_.size(); ++i) {
      if (!sockets_[i].is_open()) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", i);
    }
    return Unavailable("of {} processes, number {} did not come within {} s: start them with this one's --master-addr, "
                       "--master-port and --nnodes", sockets_.size(), missing, options_.timeout_seconds);
  }

  Status Join() {
    auto first = comm::Connect(options_.address, options_.port, deadline_);
    if (!first) {
      return Unavailable("the first process (--master-addr, --master-port) did not answer within {} s at {}",
                         options_.timeout_seconds, first.error().message());
    }
    ASSIGN_OR_RETURN(const Endpoint here, LocalEnd(*first));
    ASSIGN_OR_RETURN(const Socket listener, Listen(here.address, 0));
    ASSIGN_OR_RETURN(const Endpoint listening, LocalEnd(listener));
    RETURN_IF_ERROR(Named(SayHello(*first, listening.port), 0));
    Welcome welcome;
    RETURN_IF_ERROR(Named(ReceiveAll(*first, &welcome, sizeof(welcome), deadline_), 0));
    if (welcome.count != options_.process.count) {
      return InvalidArgument("the first process refuses this one: {}", TextOf(welcome.refusal));
    }
    sockets_[0] = std::move(*first);
    table_.resize(sockets_.size());
    RETURN_IF_ERROR(Named(ReceiveAll(sockets_[0], table_.data(), table_.size() * sizeof(Entry), deadline_), 0));
    CopyText(options_.address, &table_[0].address);
    return ConnectOthers(listener);
  }

  // Each two: the later one calls.
  Status ConnectOthers(const Socket& listener) {
    const auto own = static_cast<size_t>(options_.process.index);
    for (size_t i = 1; i < own; ++i) {
      auto socket = comm::Connect(TextOf(table_[i].address), table_[i].port, deadline_);
      if (!socket) return Named(socket.error(), i);
      RETURN_IF_ERROR(Named(SayHello(*socket, 0), i));
      sockets_[i] = std::move(*socket);
    }
    for (size_t missing = sockets_.size() - own - 1; missing > 0; --missing) {
      ASSIGN_OR_RETURN(Socket socket, Accept(listener, deadline_));
      if (!socket.is_open()) return Unavailable("{} of the other processes did not connect to this one", missing);
      Hello hello;
      RETURN_IF_ERROR(ReceiveAll(socket, &hello, sizeof(hello), deadline_));
      const auto index = static_cast<size_t>(hello.index);
      if (!hello.is_ours() || index <= own || index >= sockets_.size() || sockets_[index].is_open()) {
        return Unavailable("a connection to port {} is not of one of the job's processes", options_.port);
      }
      sockets_[index] = std::move(socket);
    }
    return OkStatus();
  }

  Status SayHello(const Socket& socket, int port) {
    Hello hello;
    hello.index = options_.process.index;
    hello.count = options_.process.count;
    hello.port = port;
    CopyText(HostName(), &hello.host);
    return SendAll(socket, &hello, sizeof(hello), deadline_);
  }

  Status Named(Status status, size_t process) const {
    if (status.ok()) return status;
    const std::string host = process < table_.size() ? TextOf(table_[process].host) : options_.address;
    return Status(status.code(), fmt::format("{}: {}", DescribeProcess(static_cast<int>(process), host), status.message()));
  }

  const TcpOptions& options_;
  const Deadline deadline_;
  std::vector<Socket> sockets_;  // by process
  std::vector<Entry> table_;
};

}  // namespace

Expected<std::unique_ptr<Transport>> ConnectTcp(const TcpOptions& options) {
  CHECK(options.process.index >= 0 && options.process.index < options.process.count);
  CHECK_LE(options.process.count, kMaxProcesses);
  return Connector(options).Connect();
}

}  // namespace tiercel::comm
