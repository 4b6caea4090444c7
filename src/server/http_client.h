// HttpClient: a blocking HTTP/1.1 client for the tools (chat, complete, bench, hub downloads).
// One request at a time per client; the connection is kept alive between requests to one origin.
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
#include "server/sse_reader.h"
#include "server/url.h"

namespace tiercel::server {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpClientOptions {
  double connect_timeout_s = 15;
  double idle_timeout_s = 60;  // without a byte from the other side; 0: none
  int max_redirects = 10;
  int64_t max_body_bytes = int64_t{256} << 20;  // of bodies that are collected, not streamed
  bool verify_tls = true;
  std::string ca_file;  // empty: the system's certificates (SSL_CERT_FILE is honored)
};

struct HttpRequestSpec {
  std::string method = "GET";
  std::string url;
  HttpHeaders headers;  // Host, Content-Length and Connection are added
  std::string body;
};

struct HttpResponse {
  int status = 0;
  HttpHeaders headers;
  std::string body;       // empty where a sink took it
  std::string final_url;  // after redirects
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
  // statuses are collected. Authorization headers are not sent on to another host by a redirect.
  Expected<HttpResponse> Send(const HttpRequestSpec& request, const Sink& sink = nullptr,
                              const OnHead& on_head = nullptr);
  Expected<HttpResponse> Get(const std::string& url, HttpHeaders headers = {});
  Expected<HttpResponse> Head(const std::string& url, HttpHeaders headers = {});
  Expected<HttpResponse> PostJson(const std::string& url, std::string body,
                                  HttpHeaders headers = {});

  // Downloads into the file `path`, appending to what is there (Range: bytes=N-). A server that
  // answers 200 to the range starts the file anew. `progress`(bytes so far, total or −1).
  // Anything but 200, 206 and 416-when-complete is an error that names the URL and the status.
  using Progress = std::function<bool(int64_t done, int64_t total)>;
  Status Download(const std::string& url, const std::string& path, HttpHeaders headers = {},
                  const Progress& progress = nullptr);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel::server
