#include "server/router.h"

#include <algorithm>

#include "api/names.h"
#include "base/log.h"
#include "base/percent_encoding.h"
#include "server/access.h"

namespace tiercel::server {

namespace {

api::ApiError HttpError(int status) {
  return {status, std::string(status == 404 ? "NotFoundError" : ReasonPhrase(status)),
          std::string(ReasonPhrase(status)), std::nullopt};
}

// Methods are labels of metrics: their number is bounded.
std::string_view KnownMethod(std::string_view method) {
  for (const std::string_view known : {"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"}) {
    if (method == known) return known;
  }
  return "OTHER";
}

// What stands in `path` for the {…} of `pattern`; nullopt: it is another path. Without {…} both are equal, and that
// is empty.
std::optional<std::string_view> Match(std::string_view pattern, std::string_view path) {
  const size_t open = pattern.find('{');
  if (open == std::string_view::npos) {
    return pattern == path ? std::optional(std::string_view()) : std::nullopt;
  }
  const std::string_view behind = pattern.substr(pattern.find('}') + 1);
  if (path.size() <= open + behind.size() || !path.starts_with(pattern.substr(0, open)) ||
      !path.ends_with(behind)) {
    return std::nullopt;
  }
  path = path.substr(open, path.size() - open - behind.size());
  return path.find('/') == std::string_view::npos ? std::optional(path) : std::nullopt;
}

}  // namespace

HttpReply ErrorReply(const api::ApiError& error, HttpHeaders headers, api::Protocol protocol) {
  if (error.http_status == 503 || error.http_status == 429) headers.emplace_back("Retry-After", "1");
  return {error.http_status, "application/json", api::ErrorBody(error, protocol), std::move(headers)};
}

HttpReply EventStreamHead(HttpHeaders headers) {
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");
  return {200, "text/event-stream; charset=utf-8", "", std::move(headers)};
}

void Reply(const Call& call, std::string body, std::string content_type) {
  call.exchange->Respond({200, std::move(content_type), std::move(body), call.headers});
}

void ReplyError(const Call& call, const api::ApiError& error, api::Protocol protocol) {
  call.exchange->Respond(ErrorReply(error, call.headers, protocol));
}

void Router::Add(std::string path, Methods methods, bool counted) {
  routes_.push_back({std::move(path), std::move(methods), counted});
}

std::vector<Operation> Router::Operations() const {
  std::vector<Operation> operations;
  for (const Route& route : routes_) {
    for (const Method& method : route.methods) operations.push_back({method.name, route.path, method.text});
  }
  return operations;
}

std::vector<std::string> Router::Lines() const {
  std::vector<std::string> lines;
  for (const Route& route : routes_) {
    std::string methods;
    for (const Method& method : route.methods) methods += (methods.empty() ? "" : ", ") + method.name;
    lines.push_back(fmt::format("Route: {}, Methods: {}", route.path, methods));
  }
  return lines;
}

// The path without --root-path.
std::string_view Router::RoutePath(const HttpRequest& request) const {
  std::string_view path = request.path;
  const std::string_view root = options_.root_path;
  if (root.size() > 1 && path.substr(0, root.size()) == root &&
      (path.size() == root.size() || path[root.size()] == '/')) {
    path.remove_prefix(root.size());
  }
  return path.empty() ? "/" : path;
}

const Router::Route* Router::Find(std::string_view path) const {
  const auto it = std::find_if(routes_.begin(), routes_.end(),
                               [&](const Route& route) { return Match(route.path, path).has_value(); });
  return it == routes_.end() ? nullptr : &*it;
}

const Router::Handler* Router::FindHandler(const Route& route, std::string_view method) {
  // The session itself leaves the body out of an answer to HEAD.
  if (method == "HEAD") method = "GET";
  const auto it = std::find_if(route.methods.begin(), route.methods.end(),
                               [&](const Method& entry) { return entry.name == method; });
  return it == route.methods.end() ? nullptr : &it->handler;
}

HttpHeaders Router::AnswerHeaders(const HttpRequest& request,
                                  const std::string& request_id) const {
  HttpHeaders headers = CorsHeaders(request, options_);
  if (options_.enable_request_id_headers) {
    headers.emplace_back("X-Request-Id", request_id.empty() ? api::RandomId() : request_id);
  }
  return headers;
}

std::optional<HttpReply> Router::Refuse(const HttpRequest& request) const {
  if (auto preflight = PreflightReply(request, options_)) return preflight;
  const auto headers = [&] { return AnswerHeaders(request, RequestIdOf(request)); };
  const std::string_view path = RoutePath(request);
  if (!IsAuthorized(request, path, options_)) {
    return HttpReply{401, "application/json", R"({"error":"Unauthorized"})", headers()};
  }
  const Route* route = Find(path);
  if (route == nullptr) return ErrorReply(HttpError(404), headers());
  if (FindHandler(*route, request.method) != nullptr) return std::nullopt;
  std::string allowed;
  for (const Method& method : route->methods) allowed += (allowed.empty() ? "" : ", ") + method.name;
  HttpHeaders with_allowed = headers();
  with_allowed.emplace_back("Allow", allowed);
  return ErrorReply(HttpError(405), std::move(with_allowed));
}

void Router::Handle(std::shared_ptr<Exchange> exchange) const {
  const HttpRequest& request = exchange->request();
  const std::string_view path = RoutePath(request);
  const Route* route = Find(path);
  const Handler* handler = FindHandler(*route, request.method);
  std::string parameter = PercentDecoded(*Match(route->path, path));
  std::string request_id = RequestIdOf(request);
  HttpHeaders headers = AnswerHeaders(request, request_id);
  (*handler)({std::move(exchange), std::move(headers), std::move(request_id),
              std::move(parameter)});
}

void Router::Finished(const HttpRequest& request, const ExchangeSummary& summary) {
  const std::string_view path = request.path.empty() ? "none" : RoutePath(request);
  const Route* route = Find(path);
  if (route == nullptr || route->counted) {
    metrics_.Observe(KnownMethod(request.method), route != nullptr ? route->path : "none",
                     summary.status, summary.seconds, request.body_bytes,
                     summary.response_bytes);
  }
  const auto& excluded = options_.access_log_excluded_paths;
  // A probe's polls while the model is being loaded would be most of the log.
  const bool is_poll = summary.status == 503 && is_loading_();
  if (!options_.access_log || is_poll ||
      std::find(excluded.begin(), excluded.end(), path) != excluded.end()) {
    return;
  }
  // The target is the client's text: what could forge a line or color a terminal is cut out.
  std::string target = request.target.substr(0, 512);
  std::replace_if(target.begin(), target.end(),
                  [](unsigned char c) { return c < 0x21 || c > 0x7e; }, '?');
  LOG_INFO("{} - \"{} {} HTTP/1.1\" {} {}", request.peer, KnownMethod(request.method), target,
           summary.status, ReasonPhrase(summary.status));
}

}  // namespace tiercel::server
