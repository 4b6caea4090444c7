#include "server/access.h"

#include <algorithm>

#include "api/names.h"
#include "base/ascii_case.h"

namespace tiercel::server {

namespace {

// Takes the same time for every text of one length, wherever it differs.
bool EqualConstantTime(std::string_view given, std::string_view expected) {
  unsigned difference = given.size() == expected.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    const auto other = static_cast<unsigned char>(expected[i % std::max<size_t>(1, expected.size())]);
    difference |= static_cast<unsigned char>(given[i]) ^ other;
  }
  return difference == 0;
}

bool Allows(const std::vector<std::string>& allowed, std::string_view value) {
  return std::any_of(allowed.begin(), allowed.end(),
                     [&](const std::string& a) { return a == "*" || a == value; });
}

bool AllowsAll(const std::vector<std::string>& allowed) {
  return std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
}

std::string Joined(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items) out += (out.empty() ? "" : ", ") + item;
  return out;
}

}  // namespace

bool PathNeedsKey(std::string_view path) {
  // vLLM leaves /invocations and the short names of what pools open; they compute as /v1 does, so here
  // they are not.
  for (const std::string_view prefix : {"/v1", "/v2", "/inference", "/cohere", "/invocations",
                                        "/pooling", "/classify", "/score", "/rerank"}) {
    if (path.substr(0, prefix.size()) == prefix) return true;
  }
  return false;
}

bool IsAuthorized(const HttpRequest& request, std::string_view path, const ServerOptions& options) {
  if (options.api_keys.empty() || request.method == "OPTIONS" || !PathNeedsKey(path)) return true;
  std::string_view given = request.Header("Authorization");
  const size_t blank = given.find(' ');
  const bool is_bearer =
      blank != std::string_view::npos && EqualsNoCase(given.substr(0, blank), "bearer");
  // Anthropic's clients have a header of their own.
  given = is_bearer ? given.substr(blank + 1) : request.Header("X-Api-Key");
  bool found = false;
  for (const std::string& key : options.api_keys) {
    // An empty key in the list opens nothing.
    found |= EqualConstantTime(given, key) & !key.empty();
  }
  return found;
}

std::optional<HttpReply> PreflightReply(const HttpRequest& request, const ServerOptions& options) {
  const std::string_view wanted_method = request.Header("Access-Control-Request-Method");
  if (options.allowed_origins.empty() || request.method != "OPTIONS" ||
      request.Header("Origin").empty() || wanted_method.empty()) {
    return std::nullopt;
  }
  HttpReply reply{200, "text/plain; charset=utf-8", "OK", CorsHeaders(request, options)};
  const std::vector<std::string> all_methods = {"DELETE", "GET",  "HEAD", "OPTIONS",
                                                "PATCH",  "POST", "PUT"};
  const bool any_method = AllowsAll(options.allowed_methods);
  reply.headers.emplace_back("Access-Control-Allow-Methods",
                             Joined(any_method ? all_methods : options.allowed_methods));
  reply.headers.emplace_back("Access-Control-Max-Age", "600");
  const std::string_view wanted_headers = request.Header("Access-Control-Request-Headers");
  if (AllowsAll(options.allowed_headers)) {
    // Header values come from the HTTP parser: they hold no line ends.
    if (!wanted_headers.empty()) {
      reply.headers.emplace_back("Access-Control-Allow-Headers", wanted_headers);
    }
  } else {
    reply.headers.emplace_back("Access-Control-Allow-Headers", Joined(options.allowed_headers));
  }
  std::string refused;
  if (!Allows(options.allowed_origins, request.Header("Origin"))) refused = "origin";
  if (!Allows(options.allowed_methods, wanted_method)) {
    refused += refused.empty() ? "method" : ", method";
  }
  if (!refused.empty()) {
    reply.status = 400;
    reply.body = "Disallowed CORS " + refused;
  }
  return reply;
}

HttpHeaders CorsHeaders(const HttpRequest& request, const ServerOptions& options) {
  const std::string_view origin = request.Header("Origin");
  if (options.allowed_origins.empty() || origin.empty()) return {};
  HttpHeaders headers;
  // A browser refuses "*" together with credentials: then the origin itself is named.
  const bool any = AllowsAll(options.allowed_origins);
  if (any && !options.allow_credentials) {
    headers.emplace_back("Access-Control-Allow-Origin", "*");
  } else if (any || Allows(options.allowed_origins, origin)) {
    headers.emplace_back("Access-Control-Allow-Origin", origin);
    headers.emplace_back("Vary", "Origin");
  } else {
    headers.emplace_back("Vary", "Origin");
    return headers;
  }
  if (options.allow_credentials) headers.emplace_back("Access-Control-Allow-Credentials", "true");
  return headers;
}

std::string RequestIdOf(const HttpRequest& request) {
  const std::string_view id = request.Header("X-Request-Id");
  return api::IsPlainId(id) ? std::string(id) : std::string();
}

}  // namespace tiercel::server
