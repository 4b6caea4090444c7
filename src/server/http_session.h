// HttpSession: one connection, request after request. Included by http*.cc alone (Boost).
//
// One read is in flight at any time, whatever the session does. Consume takes of what comes what the
// phase has use for: the next request's head, its body. During an answer what comes is the
// next, pipelined request, which waits in the buffer (and beyond a bound in the peer), and the end of
// the stream tells that the client has gone.
//
//   kHandshake → kIdle → kHead → kBody → kAnswer → kIdle … or → kLinger → closed
//   A request that is refused on its head is answered first; a short body is read and forgotten
//   then, a longer one ends the connection.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

#include "server/http_request_parser.h"
#include "server/http_server.h"

namespace tiercel::server {

namespace asio = boost::asio;
using boost::system::error_code;
using Socket = asio::basic_stream_socket<asio::generic::stream_protocol,
                                         asio::io_context::executor_type>;
using TlsStream = asio::ssl::stream<Socket>;
using SteadyTime = std::chrono::steady_clock::time_point;

// So many seconds from now.
SteadyTime After(double seconds);
double SecondsSince(SteadyTime start);

class SessionBase;

// One event loop and its connections. Everything but Post belongs to its thread.
struct IoThread {
  int index = 0;
  std::unordered_set<SessionBase*> sessions;
  // What a plain connection reads lies here only until it has been consumed.
  std::array<char, 64 << 10> read_buffer;
  asio::io_context context{1};  // last: its handlers own sessions, which leave the set
};

// The connections that wait for their client's next request, those that have waited longest first:
// they go when there is no room for others. Thread-safe.
class WaitingList {
 public:
  struct Place {
    std::weak_ptr<SessionBase> session;
    bool leaving = false;  // it was told to go
  };
  using Entry = std::list<Place>::iterator;
  Entry Add(std::weak_ptr<SessionBase> session);
  void Remove(Entry entry);
  // Unless no more than `spared` wait.
  void EvictOldest(size_t spared);

 private:
  std::mutex mutex_;
  std::list<Place> staying_, leaving_;
};

// What all sessions of a server share; outlives them.
struct SessionShared {
  const ServerOptions& options;
  const HttpServer::Hooks& hooks;
  const std::shared_ptr<ByteBudget> budget;  // of heads and bodies, see BudgetedText
  const int64_t max_connections;
  WaitingList waiting{};
  std::atomic<int64_t> num_connections{0};
  std::atomic<int64_t> num_active{0};
  std::atomic<bool> draining{false};
};

// What does not depend on the kind of stream: request and answer, deadlines, output buffer.
class SessionBase : public std::enable_shared_from_this<SessionBase> {
 public:
  SessionBase(SessionShared* shared, IoThread* thread, std::string peer);
  virtual ~SessionBase();

  virtual void Start() = 0;
  // Once a second: deadlines and keep-alive comments.
  void Tick(SteadyTime now);
  void CloseIfIdle();
  // Makes room for others, unless a request has come meanwhile. Any thread.
  void Evict();
  void Close();
  // For what cannot be answered: there is no memory for it.
  void CloseWithoutMemory();

 protected:
  friend class SessionExchange;
  enum class Phase {
    kHandshake,
    kIdle,    // between two requests
    kHead,    // some of a request's head has come
    kBody,
    kAnswer,  // the handler has the request
    kLinger,  // all is said; reading on only so that the peer can take it
  };

  // Transport, by stream kind.
  virtual void StartRead() = 0;      // one piece, then OnRead
  virtual void StartWrite() = 0;     // in_flight_, then OnWritten
  virtual void StartShutdown() = 0;  // tells the peer that no more comes
  virtual void CloseSocket(bool forget_unsent) = 0;

  void SetPhase(Phase phase);
  void WaitForRequest();
  void Advance();
  void ReadOn();
  void OnRead(error_code error, std::string_view piece);
  void TakePiece(std::string_view piece);
  size_t Consume(std::string_view data);
  void OnHead();
  void OnBody();
  void AnswerOnHead(HttpReply reply);
  void RefuseRequest(int status, std::string_view message);

  void Respond(HttpReply reply);
  void BeginStream(HttpReply reply, Pulse pulse);
  void WritePiece(std::string_view piece);
  void EndStream();
  void AppendHead(const HttpReply& reply, bool chunked);
  void AppendChunk(std::string_view piece);
  void Flush();
  void OnWritten(error_code error);
  void WriteOn();
  void FinishAnswer();

  SessionShared* const shared_;
  IoThread* const thread_;
  const std::string peer_;
  std::string buffer_;  // read and not yet used
  // The request that is coming; in kAnswer one whose body has not been read and shall be forgotten.
  std::unique_ptr<RequestParser> parser_;
  Phase phase_ = Phase::kHandshake;
  std::optional<WaitingList::Entry> waiting_;  // up to the end of a head
  size_t lingered_bytes_ = 0;
  bool read_in_flight_ = false;
  bool closed_ = false;
  SteadyTime read_deadline_ = SteadyTime::max();   // of the phase
  SteadyTime write_deadline_ = SteadyTime::max();  // of the write in flight

  void BeginExchange(HttpRequest request);
  std::shared_ptr<class SessionExchange> EndExchange(int status);

  // The request being answered, in kAnswer. Meanwhile the session holds itself: nothing may be in
  // flight.
  std::shared_ptr<class SessionExchange> exchange_;
  std::shared_ptr<SessionBase> self_while_answering_;
  bool keep_alive_ = false;
  bool is_head_ = false;
  bool http_1_0_ = false;
  bool streaming_ = false;
  Pulse pulse_;  // while streaming_
  bool answer_complete_ = false;  // nothing will be appended to out_ any more
  int status_ = 0;
  int64_t answer_bytes_ = 0;
  SteadyTime request_start_, write_start_, last_write_;

  std::string out_;        // waits for the write in flight
  std::string in_flight_;  // being written; empty: none
};

// The handle that a handler holds; it may outlive both the request and the connection.
class SessionExchange final : public Exchange {
 public:
  SessionExchange(std::weak_ptr<SessionBase> session, IoThread* thread, HttpRequest request)
      : session_(std::move(session)), thread_(thread), request_(std::move(request)) {}

  const HttpRequest& request() const override { return request_; }
  BudgetedText TakeBody() override { return std::move(request_.body); }
  int io_thread() const override { return thread_->index; }
  void Post(std::function<void()> task) override;
  void Respond(HttpReply reply) override;
  void BeginStream(HttpReply reply, Pulse pulse) override;
  void Write(std::string_view piece) override;
  void EndStream() override;
  void Abort() override;
  bool writable() const override;
  double write_seconds() const override;
  void SetCallbacks(std::function<void()> on_writable, std::function<void()> on_closed) override;

 private:
  friend class SessionBase;
  // The session, while this request is still the one that it answers.
  std::shared_ptr<SessionBase> Session() const;
  // What of the request is of no use once its handler has returned.
  void ForgetHead();
  // Both forget the callbacks first: they hold the handler, which holds this.
  void NotifyClosed();
  void Forget();

  std::weak_ptr<SessionBase> session_;
  IoThread* thread_;
  HttpRequest request_;
  std::function<void()> on_writable_, on_closed_;
};

template <typename Stream>
class StreamSession final : public SessionBase {
 public:
  StreamSession(SessionShared* shared, IoThread* thread, std::string peer, Stream stream)
      : SessionBase(shared, thread, std::move(peer)), stream_(std::move(stream)) {}

  void Start() override {
    if constexpr (kIsTls) {
      SetPhase(Phase::kHandshake);
      read_deadline_ = After(shared_->options.header_timeout_s);
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [this, self = shared_from_this()](error_code error) {
                                error ? Close() : WaitForRequest();
                              });
    } else {
      error_code ignored;
      stream_.non_blocking(true, ignored);
      WaitForRequest();
    }
  }

 private:
  static constexpr bool kIsTls = std::is_same_v<Stream, TlsStream>;

  void StartRead() override {
    if constexpr (kIsTls) {
      stream_.async_read_some(asio::buffer(piece_), [this, self = shared_from_this()](
                                                        error_code error, size_t size) {
        OnRead(error, {piece_.data(), size});
      });
    } else {
      // Waiting takes no buffer, which thousands of idle connections would hold each.
      stream_.async_wait(Socket::wait_read, [this, self = shared_from_this()](error_code error) {
        size_t size = 0;
        if (!error) size = stream_.read_some(asio::buffer(thread_->read_buffer), error);
        if (error == asio::error::would_block) error = {};
        OnRead(error, {thread_->read_buffer.data(), size});
      });
    }
  }
  void StartWrite() override {
    asio::async_write(
        stream_, asio::buffer(in_flight_),
        [this, self = shared_from_this()](error_code error, size_t) { OnWritten(error); });
  }
  void StartShutdown() override {
    error_code ignored;
    if constexpr (kIsTls) {
      stream_.async_shutdown([self = shared_from_this()](error_code) { self->Close(); });
    } else {
      stream_.shutdown(Socket::shutdown_send, ignored);
    }
  }
  void CloseSocket(bool forget_unsent) override {
    error_code ignored;
    // Else the system would go on to offer it to a peer that takes nothing.
    if (forget_unsent) stream_.lowest_layer().set_option(asio::socket_base::linger(true, 0), ignored);
    stream_.lowest_layer().close(ignored);
  }

  Stream stream_;
  std::array<char, kIsTls ? 8192 : 0> piece_;
};

}  // namespace tiercel::server
