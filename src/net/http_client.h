// HttpClient: a blocking HTTP/1.1 client over libcurl, for the tools and the hub.
// One request at a time per client; the connection is kept alive between requests to one origin.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/environ.h"
#include "base/status.h"

namespace tiercel::net {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpClientOptions {
  // HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY and the certificates of SSL_CERT_FILE,
  // REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE. Of both spellings of a proxy's variable the lower case
  // one goes first.
  static HttpClientOptions FromEnviron(const Environ& environ);

  double connect_timeout_s = 15;
  // So long less than a byte a second may come or go, the wait for the answer included.
  double stall_timeout_s = 60;
  int max_redirects = 10;
  int64_t max_body_bytes = int64_t{64} << 20;  // of bodies that are collected, not streamed
  std::string http_proxy, https_proxy;         // URLs, "": none. Loopback never goes through one.
  std::string no_proxy;                        // hosts, domains; "*": all
  // A file or folder of certificates, "": the system's; `ca_source` is its variable for messages.
  std::string ca_path, ca_source;
  bool verify_peer = true;  // whether certificates are checked
};

struct HttpRequestSpec {
  std::string method = "GET";
  std::string url;
  HttpHeaders headers;  // Host, Content-Length and Connection are added
  std::string body;
  bool follow_redirects = true;
  const std::atomic<bool>* stop = nullptr;  // once set, Send ends within a second (kCancelled)
};

struct HttpResponse {
  int status = 0;
  HttpHeaders headers;
  std::string body;          // empty where a sink took it
  std::string final_url;     // after redirects
  double retry_after_s = 0;  // of the Retry-After header, a number or a date; 0: none
  // Header names compare without case; the first one wins.
  std::optional<std::string> header(std::string_view name) const;
};

class HttpClient {
 public:
  explicit HttpClient(HttpClientOptions options = {});
  ~HttpClient();

  // Called once, when the final response's head has come. False stops (kCancelled).
  using OnHead = std::function<bool(const HttpResponse& head)>;
  // Takes a piece of a successful (2xx) body as it comes. False stops (kCancelled).
  using Sink = std::function<bool(std::string_view piece)>;

  // Any status is a success of the transport. With a sink a 2xx body goes there; bodies of other
  // statuses are collected. Authorization headers are not sent on to another scheme, host or port
  // by a redirect; one from https to http is refused. kUnavailable: no connection, or one that
  // broke, and trying again may help; kFailedPrecondition: certificates.
  Expected<HttpResponse> Send(const HttpRequestSpec& request, const Sink& sink = nullptr,
                              const OnHead& on_head = nullptr);
  Expected<HttpResponse> Get(const std::string& url, HttpHeaders headers = {});
  Expected<HttpResponse> PostJson(const std::string& url, std::string body,
                                  HttpHeaders headers = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel::net
