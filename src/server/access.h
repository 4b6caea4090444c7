// Access: who may call (API keys), from which web origin (CORS), under which request id.
#pragma once

#include <optional>
#include <string>

#include "server/http_server.h"
#include "server/server.h"

namespace tiercel::server {

// Whether a path is closed where there are keys.
bool PathNeedsKey(std::string_view path);

// True if the path needs no key or the request has one. All keys are compared, in constant time.
bool IsAuthorized(const HttpRequest& request, std::string_view path, const ServerOptions& options);

// The answer to a CORS preflight; nullopt if the request is none or CORS is off.
std::optional<HttpReply> PreflightReply(const HttpRequest& request, const ServerOptions& options);
// The headers that allow the origin to read the answer.
HttpHeaders CorsHeaders(const HttpRequest& request, const ServerOptions& options);

// The client's X-Request-Id if it is plain and short (it is written into every chunk), else "".
std::string RequestIdOf(const HttpRequest& request);

}  // namespace tiercel::server
