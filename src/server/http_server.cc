#include "server/http_server.h"

#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>
#include <new>
#include <thread>

#include "base/log.h"
#include "server/http_session.h"
#include "server/http_tls.h"

namespace tiercel::server {

namespace {

using Acceptor =
    asio::basic_socket_acceptor<asio::generic::stream_protocol, asio::io_context::executor_type>;
using asio::ip::tcp;

// Descriptors that are no connections: the model's files, the log, event loops.
constexpr int64_t kOtherDescriptors = 64;
// Connections beyond the greatest number: requests without a body (probes, metrics) are answered
// there too, so that a server with all its connections in use still tells that it lives.
constexpr int64_t kSurplusConnections = 64;

constexpr size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;

// So few that wait when all others are busy stay: they are probes whose request is on its way.
size_t SparedConnections(int64_t max_connections) {
  return static_cast<size_t>(std::min(kSurplusConnections / 2, max_connections / 4));
}

int64_t MaxConnections(const ServerOptions& options) {
  if (options.max_connections > 0) return options.max_connections;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const auto most = static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
  return std::max<int64_t>(16, most - kOtherDescriptors - kSurplusConnections);
}

int64_t BytesInFlight(const ServerOptions& options) {
  if (options.max_request_bytes_in_flight > 0) return options.max_request_bytes_in_flight;
  return 2 * (options.max_request_body_bytes + options.max_header_bytes);
}

// Whether a process holds a Unix socket of that path, even one that does not listen yet.
bool IsBound(const std::string& path) {
  std::ifstream sockets("/proc/net/unix");
  for (std::string line; std::getline(sockets, line);) {
    const size_t at = line.rfind(' ');
    if (at != std::string::npos && line.compare(at + 1, std::string::npos, path) == 0) return true;
  }
  return false;
}

std::string PeerName(const Socket& socket) {
  error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  if (error || (endpoint.protocol().family() != AF_INET && endpoint.protocol().family() != AF_INET6)) {
    return "unix";
  }
  tcp::endpoint ip;
  if (endpoint.size() > ip.capacity()) return "?";
  ip.resize(endpoint.size());
  std::memcpy(ip.data(), endpoint.data(), endpoint.size());
  return fmt::format("{}:{}", ip.address().to_string(), ip.port());
}

// Sessions and exchanges see to their own tasks; what is left are new connections and the clock.
void RunLoop(asio::io_context* context) {
  while (true) {
    try {
      context->run();
      return;
    } catch (const std::bad_alloc&) {
      LOG_ERROR("no memory for a new connection");
    }
  }
}

class HttpServerImpl final : public HttpServer {
 public:
  HttpServerImpl(const ServerOptions& options, Hooks hooks)
      : options_(options),
        hooks_(std::move(hooks)),
        shared_{options_, hooks_, std::make_shared<ByteBudget>(BytesInFlight(options)),
                MaxConnections(options)} {
    for (int i = 0; i < std::max(1, options_.io_threads); ++i) {
      threads_.push_back(std::make_unique<IoThread>());
      threads_.back()->index = i;
    }
    retry_ = std::make_unique<asio::steady_timer>(threads_[0]->context);
  }

  ~HttpServerImpl() override { Stop(); }

  Status Open() {
    if (!options_.ssl_certfile.empty() || !options_.ssl_keyfile.empty()) {
      if (options_.ssl_certfile.empty() || options_.ssl_keyfile.empty()) {
        return InvalidArgument("--ssl-certfile and --ssl-keyfile must be given together");
      }
      ASSIGN_OR_RETURN(tls_, TlsCertificates::Load(options_));
    }
    if (!options_.uds.empty()) return OpenUnixSocket();
    return OpenTcp();
  }

  void Run() {
    for (auto& thread : threads_) {
      guards_.push_back(asio::make_work_guard(thread->context));
      timers_.push_back(std::make_unique<asio::steady_timer>(thread->context));
      const size_t index = guards_.size() - 1;
      asio::post(thread->context, [this, index] { ScheduleTick(index); });
    }
    // Only now: a running thread reads the timers.
    for (auto& thread : threads_) {
      runners_.emplace_back([context = &thread->context] { RunLoop(context); });
    }
  }

  Status Listen() override {
    error_code error;
    // From here on: the connections inherit it, and what is left of them when the server has gone
    // shall not keep the next one from the port.
    if (options_.uds.empty()) acceptor_->set_option(asio::socket_base::reuse_address(true), error);
    acceptor_->listen(asio::socket_base::max_listen_connections, error);
    if (error) return CannotListen(error);
    asio::post(threads_[0]->context, [this] { Accept(); });
    return OkStatus();
  }

  void StopAccepting() override {
    shared_.draining.store(true);
    asio::post(threads_[0]->context, [this] { CloseAcceptor(); });
    ForEachSession([](SessionBase& session) { session.CloseIfIdle(); });
  }

  void Stop() override {
    if (stopped_.exchange(true)) return;
    shared_.draining.store(true);
    if (runners_.empty()) return;
    std::promise<void> acceptor_closed;
    asio::post(threads_[0]->context, [&] {
      CloseAcceptor();
      acceptor_closed.set_value();
    });
    acceptor_closed.get_future().wait();
    for (size_t i = 0; i < threads_.size(); ++i) {
      std::promise<void> closed;
      asio::post(threads_[i]->context, [&, i] {
        timers_[i]->cancel();
        CloseSessions(*threads_[i]);
        closed.set_value();
      });
      closed.get_future().wait();
    }
    for (auto& guard : guards_) guard.reset();
    for (auto& thread : threads_) thread->context.stop();
    for (std::thread& runner : runners_) runner.join();
    if (!options_.uds.empty()) ::unlink(options_.uds.c_str());
  }

  int64_t active_exchanges() const override { return shared_.num_active.load(); }
  int num_io_threads() const override { return static_cast<int>(threads_.size()); }
  void Post(int io_thread, std::function<void()> task) override {
    asio::post(threads_[static_cast<size_t>(io_thread)]->context, std::move(task));
  }
  int port() const override { return port_; }

 private:
  Status OpenUnixSocket() {
    if (options_.uds.size() > kMaxSocketPath) {
      return InvalidArgument("--uds {}: found a path of {} bytes, a socket's has at most {}", options_.uds,
                             options_.uds.size(), kMaxSocketPath);
    }
    // A socket that a killed server left behind would refuse the bind.
    if (IsBound(options_.uds)) {
      return FailedPrecondition("--uds {}: another server has taken it", options_.uds);
    }
    std::error_code ignored;
    const std::filesystem::file_status there = std::filesystem::status(options_.uds, ignored);
    if (std::filesystem::is_socket(there)) {
      ::unlink(options_.uds.c_str());
    } else if (std::filesystem::exists(there)) {
      return InvalidArgument("--uds {}: is a {}, expected a path where a socket can be made", options_.uds,
                             std::filesystem::is_directory(there)      ? "folder"
                             : std::filesystem::is_regular_file(there) ? "file"
                                                                       : "device or a pipe");
    }
    return Bind(asio::local::stream_protocol::endpoint(options_.uds), options_.uds);
  }

  Status OpenTcp() {
    if (options_.port < 0 || options_.port > 65535) {
      return InvalidArgument("--port {}: expected 0 to 65535", options_.port);
    }
    error_code error;
    if (options_.host.empty()) {
      // One socket for both families, where the machine has IPv6.
      const Status both =
          Bind(tcp::endpoint(tcp::v6(), static_cast<uint16_t>(options_.port)), "[::]", true);
      if (both.ok() || both.code() == StatusCode::kFailedPrecondition) return both;
      return Bind(tcp::endpoint(tcp::v4(), static_cast<uint16_t>(options_.port)), "0.0.0.0");
    }
    tcp::resolver resolver(threads_[0]->context);
    const auto results = resolver.resolve(options_.host, std::to_string(options_.port),
                                          tcp::resolver::passive, error);
    if (error || results.empty()) {
      return InvalidArgument("--host {}: {}", options_.host, error.message());
    }
    return Bind(results.begin()->endpoint(), options_.host);
  }

  template <typename Endpoint>
  Status Bind(const Endpoint& endpoint, const std::string& name, bool dual_stack = false) {
    name_ = options_.uds.empty() ? fmt::format("{}:{}", name, options_.port) : name;
    error_code error;
    acceptor_ = std::make_unique<Acceptor>(threads_[0]->context);
    acceptor_->open(endpoint.protocol(), error);
    if (error) return CannotListen(error);
    if (dual_stack) acceptor_->set_option(asio::ip::v6_only(false), error);
    // Two sockets with SO_REUSEADDR may have one port until one of them listens, and a server that
    // is loading does not. So it is set only where connections of a former server are in the way.
    acceptor_->bind(endpoint, error);
    if (error == asio::error::address_in_use && options_.uds.empty()) {
      acceptor_->set_option(asio::socket_base::reuse_address(true), error);
      acceptor_->bind(endpoint, error);
      error_code ignored;
      acceptor_->set_option(asio::socket_base::reuse_address(false), ignored);
    }
    if (error) return CannotListen(error);
    if (options_.uds.empty()) {
      const auto local = acceptor_->local_endpoint(error);
      tcp::endpoint ip;
      ip.resize(local.size());
      std::memcpy(ip.data(), local.data(), local.size());
      port_ = ip.port();
    }
    return OkStatus();
  }

  // kFailedPrecondition if the address is taken or forbidden, kUnavailable for all else.
  Status CannotListen(error_code error) const {
    const bool taken = error == asio::error::address_in_use;
    return Status(taken || error == asio::error::access_denied ? StatusCode::kFailedPrecondition
                                                               : StatusCode::kUnavailable,
                  fmt::format("cannot listen on {}: {}{}", name_, error.message(),
                              taken ? "; stop the other server or choose another --port" : ""));
  }

  void Accept() {
    if (acceptor_ == nullptr || shared_.draining.load()) return;
    if (shared_.num_connections.load() >= shared_.max_connections + kSurplusConnections) {
      shared_.waiting.EvictOldest(0);
      RetryAccept();
      return;
    }
    IoThread* thread = threads_[next_thread_++ % threads_.size()].get();
    acceptor_->async_accept(thread->context, [this, thread](error_code error, Socket socket) {
      if (error == asio::error::operation_aborted || shared_.draining.load()) return;
      if (error) {
        // Out of descriptors, most likely: some will be free in a moment.
        LOG_WARNING("accept: {}", error.message());
        shared_.waiting.EvictOldest(0);
        RetryAccept();
        return;
      }
      if (shared_.num_connections.load() >= shared_.max_connections) {
        shared_.waiting.EvictOldest(SparedConnections(shared_.max_connections));
      }
      Accept();
      StartSession(thread, std::move(socket));
    });
  }

  void RetryAccept() {
    retry_->expires_after(std::chrono::milliseconds(5));
    retry_->async_wait([this](error_code error) {
      if (!error) Accept();
    });
  }

  void StartSession(IoThread* thread, Socket socket) {
    error_code ignored;
    const std::string peer = PeerName(socket);
    // Tokens are small and must not wait for each other.
    if (options_.uds.empty()) socket.set_option(tcp::no_delay(true), ignored);
    if (tls_ != nullptr) {
      StartOn(thread, peer, TlsStream(std::move(socket), tls_->context()));
    } else {
      StartOn(thread, peer, std::move(socket));
    }
  }

  // The socket belongs to the thread's loop; its session is made there.
  template <typename Stream>
  void StartOn(IoThread* thread, const std::string& peer, Stream stream) {
    asio::post(thread->context, [this, thread, peer, moved = std::move(stream)]() mutable {
      std::make_shared<StreamSession<Stream>>(&shared_, thread, peer, std::move(moved))->Start();
    });
  }

  void CloseAcceptor() {
    error_code ignored;
    retry_->cancel();
    if (acceptor_ != nullptr) acceptor_->close(ignored);
  }

  // `visit` may close sessions, which then leave the set: it is walked over a copy.
  template <typename Visit>
  static void VisitSessions(IoThread& thread, Visit visit) {
    std::vector<std::shared_ptr<SessionBase>> sessions;
    sessions.reserve(thread.sessions.size());
    for (SessionBase* session : thread.sessions) {
      if (auto alive = session->weak_from_this().lock()) sessions.push_back(std::move(alive));
    }
    for (const auto& session : sessions) visit(*session);
  }

  static void CloseSessions(IoThread& thread) {
    VisitSessions(thread, [](SessionBase& session) { session.Close(); });
  }

  template <typename Visit>
  void ForEachSession(Visit visit) {
    for (auto& thread : threads_) {
      asio::post(thread->context, [t = thread.get(), visit] { VisitSessions(*t, visit); });
    }
  }

  void ScheduleTick(size_t index) {
    timers_[index]->expires_after(std::chrono::seconds(1));
    timers_[index]->async_wait([this, index](error_code error) {
      if (error) return;
      ScheduleTick(index);
      const SteadyTime now = std::chrono::steady_clock::now();
      VisitSessions(*threads_[index], [now](SessionBase& session) { session.Tick(now); });
      if (index == 0 && tls_ != nullptr && options_.ssl_refresh) tls_->Refresh();
    });
  }

  const ServerOptions options_;
  const Hooks hooks_;
  SessionShared shared_;
  std::unique_ptr<TlsCertificates> tls_;  // null: plain; thread 0's
  std::vector<std::unique_ptr<IoThread>> threads_;
  std::vector<asio::executor_work_guard<asio::io_context::executor_type>> guards_;
  std::vector<std::unique_ptr<asio::steady_timer>> timers_;
  std::unique_ptr<asio::steady_timer> retry_;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<std::thread> runners_;
  size_t next_thread_ = 0;
  std::string name_;  // of the address, for messages
  int port_ = 0;
  std::atomic<bool> stopped_{false};
};

}  // namespace

void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Expected<std::unique_ptr<HttpServer>> HttpServer::Start(const ServerOptions& options, Hooks hooks) {
  auto server = std::make_unique<HttpServerImpl>(options, std::move(hooks));
  RETURN_IF_ERROR(server->Open());
  server->Run();
  return server;
}

}  // namespace tiercel::server
