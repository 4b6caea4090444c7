// HttpServer: HTTP/1.1 over TCP, TLS or a Unix socket, without any knowledge of routes.
//
// Connections live on a few I/O threads, each with its own event loop; a connection never changes
// its thread, so nothing of it is locked. Handlers run on that thread and must not block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "server/byte_budget.h"
#include "server/server.h"

namespace tiercel::server {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string target;  // as sent: path and query
  std::string path;    // without query, slashes tidied: "//v1/models/" is "/v1/models"
  HttpHeaders headers;  // forgotten when the handler returns
  BudgetedText body;
  int64_t body_bytes = 0;  // its size, also when it has been taken
  std::string peer;        // "127.0.0.1:5000"

  // The first header of that name (compared without case); empty if there is none.
  std::string_view Header(std::string_view name) const;
  // Every value of a parameter of the query, decoded, in order.
  std::vector<std::string> Query(std::string_view name) const;
};

struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpHeaders headers;
};

// What stands in a stream that says nothing else for a while, so that nobody between takes it for dead.
struct Pulse {
  std::string_view text = ": keep-alive\n\n";  // lasts
  double interval_s = 0;                       // 0: the server's, which may be never
};

// One request and its answer. Every member but Post is called on the request's I/O thread only.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  // Moves the body out: its memory is free as soon as the taker has no more use for it.
  virtual BudgetedText TakeBody() = 0;
  virtual int io_thread() const = 0;
  // Runs `task` on the I/O thread. Any thread.
  virtual void Post(std::function<void()> task) = 0;

  // The whole answer at once. Exactly one of Respond and BeginStream is called.
  virtual void Respond(HttpReply reply) = 0;
  // The head of an answer that comes in pieces; reply.body is its first piece.
  virtual void BeginStream(HttpReply reply, Pulse pulse = {}) = 0;
  virtual void Write(std::string_view piece) = 0;
  virtual void EndStream() = 0;
  // Ends the connection at once, whatever has not been sent, as if the client had gone.
  virtual void Abort() = 0;
  // True while the client has taken all that was written: the moment for more. A streaming
  // handler that writes only then keeps one bounded buffer a connection.
  virtual bool writable() const = 0;
  // For how long the client has been taking what was written last; 0 while writable.
  virtual double write_seconds() const = 0;

  // `on_writable`: the client has taken all. `on_closed`: the client has gone before the end;
  // called once, writes after it are ignored.
  virtual void SetCallbacks(std::function<void()> on_writable,
                            std::function<void()> on_closed) = 0;
};

// The status of an exchange whose client has gone before its answer was complete.
inline constexpr int kClientClosedRequest = 499;

// A finished exchange, for the access log and the metrics.
struct ExchangeSummary {
  int status = 0;
  double seconds = 0;
  int64_t response_bytes = 0;
};

class HttpServer {
 public:
  // All of them are called on I/O threads.
  struct Hooks {
    // From the head alone, before any of the body is read: the answer to a request that is not
    // let in (its key, its route, its method), or nullopt.
    std::function<std::optional<HttpReply>(const HttpRequest&)> refuse;
    std::function<void(std::shared_ptr<Exchange>)> handle;
    std::function<void(const HttpRequest&, const ExchangeSummary&)> finished;
    // The body for errors that the transport itself answers (bad HTTP, limits).
    std::function<std::string(int status, std::string_view message)> error_body;
  };

  // Takes the address and starts the I/O threads; a client that connects is refused until Listen.
  static Expected<std::unique_ptr<HttpServer>> Start(const ServerOptions& options, Hooks hooks);
  virtual ~HttpServer() = default;  // Stop()

  // Accepts connections. Once, before StopAccepting and Stop. kFailedPrecondition: another server
  // has come to listen on the address.
  virtual Status Listen() = 0;
  // Closes the listener and idle connections; the others close after their answer.
  virtual void StopAccepting() = 0;
  // Requests whose answer is not finished.
  virtual int64_t active_exchanges() const = 0;
  // Closes every connection and joins the threads. Not from an I/O thread.
  virtual void Stop() = 0;

  virtual int num_io_threads() const = 0;
  virtual void Post(int io_thread, std::function<void()> task) = 0;
  virtual int port() const = 0;  // 0 for a Unix socket
};

// "//a///b/" → "/a/b"; at least "/".
std::string TidyPath(std::string_view path);
// The tidied path of a request's target, which may be a whole URL.
std::string PathOf(std::string_view target);
std::string_view ReasonPhrase(int status);

}  // namespace tiercel::server
