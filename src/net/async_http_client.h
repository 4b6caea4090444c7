// AsyncHttpClient: many HTTP/1.1 requests at once on one thread, for load generators.
#pragma once

#include <functional>
#include <memory>

#include "base/status.h"
#include "net/http_client.h"

namespace tiercel::net {

// An interface, so that what is built on it can be tested without sockets and time. One thread at a
// time. All callbacks run within Poll.
class AsyncHttpClient {
 public:
  using OnDone = std::function<void(Expected<HttpResponse>)>;

  virtual ~AsyncHttpClient() = default;  // what still runs is cut off without a word

  // Begins a request. `sink` takes a 2xx body as it comes, and may not call Start. `on_done` is
  // called once, with what HttpClient::Send would give; it may call Start. Redirects are not
  // followed.
  virtual void Start(HttpRequestSpec spec, HttpClient::Sink sink, OnDone on_done) = 0;
  // Waits until something comes, at most so long, and hands on what has come.
  virtual Status Poll(double seconds) = 0;

  // Over libcurl. Connections are kept alive and used again.
  static Expected<std::unique_ptr<AsyncHttpClient>> Create(HttpClientOptions options);
};

}  // namespace tiercel::net
