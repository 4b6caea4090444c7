#include "server/router.h"

#include <algorithm>

#include "api/names.h"
#include "base/log.h"
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

}  // namespace

HttpReply ErrorReply(const api::ApiError& error, HttpHeaders headers) {
  if (error.http_status == 503 || error.http_status == 429) headers.emplace_back("Retry-After", "1");
  return {error.http_status, "application/json", api::ErrorBody(error), std::move(headers)};
}

void Reply(const Call& call, std::string body, std::string content_type) {
  call.exchange->Respond({200, std::move(content_type), std::move(body), call.headers});
}

void ReplyError(const Call& call, const api::ApiError& error) {
  call.exchange->Respond(ErrorReply(error, call.headers));
}

void Router::Add(std::string path, Methods methods, bool counted) {
  routes_.push_back({std::move(path), std::move(methods), counted});
}

std::vector<std::string> Router::Lines() const {
  std::vector<std::string> lines;
  for (const Route& route : routes_) {
    std::string methods;
    for (const auto& [method, handler] : route.methods) {
      methods += (methods.empty() ? "" : ", ") + method;
    }
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
                               [&](const Route& route) { return route.path == path; });
  return it == routes_.end() ? nullptr : &*it;
}

void Router::Handle(std::shared_ptr<Exchange> exchange) const {
  const HttpRequest& request = exchange->request();
  Call call{exchange, CorsHeaders(request, options_), RequestIdOf(request)};
  if (options_.enable_request_id_headers) {
    call.headers.emplace_back("X-Request-Id",
                              call.request_id.empty() ? api::RandomId() : call.request_id);
  }
  if (std::optional<HttpReply> preflight = PreflightReply(request, options_)) {
    exchange->Respond(std::move(*preflight));
    return;
  }
  const std::string_view path = RoutePath(request);
  if (!IsAuthorized(request, path, options_)) {
    exchange->Respond({401, "application/json", R"({"error":"Unauthorized"})", call.headers});
    return;
  }
  const Route* route = Find(path);
  if (route == nullptr) {
    ReplyError(call, HttpError(404));
    return;
  }
  // The session itself leaves the body out of an answer to HEAD.
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  for (const auto& [name, handler] : route->methods) {
    if (name == method) {
      handler(std::move(call));
      return;
    }
  }
  std::string allowed;
  for (const auto& [name, handler] : route->methods) allowed += (allowed.empty() ? "" : ", ") + name;
  call.headers.emplace_back("Allow", allowed);
  ReplyError(call, HttpError(405));
}

void Router::Finished(const HttpRequest& request, const ExchangeSummary& summary) {
  const std::string_view path = request.path.empty() ? "none" : RoutePath(request);
  const Route* route = Find(path);
  if (route == nullptr || route->counted) {
    metrics_.Observe(KnownMethod(request.method), route != nullptr ? route->path : "none",
                     summary.status, summary.seconds, static_cast<int64_t>(request.body.size()),
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
