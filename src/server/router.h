// Router: from an exchange to the handler of its route. CORS, authorization, unknown paths and
// methods are answered here; so are the HTTP metrics and the access log.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/errors.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "server/openapi.h"

namespace tiercel::server {

// What a route's handler answers, on the I/O thread, or hands on.
struct Call {
  std::shared_ptr<Exchange> exchange;
  HttpHeaders headers;     // of every answer: CORS, request id
  std::string request_id;  // the client's X-Request-Id, or empty
  std::string parameter;   // what stands in the path for the route's {…}
};

void Reply(const Call& call, std::string body, std::string content_type = "application/json");
// With "Retry-After" where the error says that the server is full.
void ReplyError(const Call& call, const api::ApiError& error,
                api::Protocol protocol = api::Protocol::kChat);
HttpReply ErrorReply(const api::ApiError& error, HttpHeaders headers,
                     api::Protocol protocol = api::Protocol::kChat);
// The head of a stream of events.
HttpReply EventStreamHead(HttpHeaders headers);

// Routes are added before the first request; Handle and Finished come from any I/O thread.
class Router {
 public:
  using Handler = std::function<void(Call)>;
  struct Method {
    std::string name;
    Handler handler;
    OperationText text = {};
  };
  using Methods = std::vector<Method>;

  // `options` outlive the router. While `is_loading`, refused probes are not logged.
  Router(const ServerOptions& options, std::function<bool()> is_loading)
      : options_(options), is_loading_(std::move(is_loading)) {}

  // A path may have one {name}, which stands for a part between slashes. `counted`: in the HTTP metrics.
  void Add(std::string path, Methods methods, bool counted = true);

  // From a request's head alone: the answer to a CORS preflight, to one without a key, of an
  // unknown path or with a wrong method; nullopt if it may be handled.
  std::optional<HttpReply> Refuse(const HttpRequest& request) const;
  // A request that was not refused.
  void Handle(std::shared_ptr<Exchange> exchange) const;
  void Finished(const HttpRequest& request, const ExchangeSummary& summary);

  // In the order in which they were added; for as long as no route is added.
  std::vector<Operation> Operations() const;
  // "Route: /health, Methods: GET", one line a route.
  std::vector<std::string> Lines() const;
  const HttpMetrics& metrics() const { return metrics_; }

 private:
  struct Route {
    std::string path;
    Methods methods;
    bool counted;
  };

  HttpHeaders AnswerHeaders(const HttpRequest& request, const std::string& request_id) const;
  static const Handler* FindHandler(const Route& route, std::string_view method);
  std::string_view RoutePath(const HttpRequest& request) const;
  const Route* Find(std::string_view path) const;

  const ServerOptions& options_;
  const std::function<bool()> is_loading_;
  std::vector<Route> routes_;
  HttpMetrics metrics_;
};

}  // namespace tiercel::server
