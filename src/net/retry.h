// When to try again what a network or a busy server failed.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <random>
#include <string_view>

#include "net/http_client.h"

namespace tiercel::net {

struct RetryOptions {
  int max_tries = 5;               // in a row that brought nothing
  int max_tries_in_all = 50;       // of one file
  double first_wait_s = 0.5;       // doubles with every try, up to max_wait_s
  double max_wait_s = 30;
  double max_total_wait_s = 300;   // of all waits together
  double max_retry_after_s = 60;   // a server that asks for more is not asked again
};

// Whether the same request may well be answered a moment later.
bool IsPassing(int http_status);

// The waits between the tries of one request: exponential, with jitter, so that clients that were
// cut off together do not come back together.
class Retries {
 public:
  explicit Retries(const RetryOptions& options, uint64_t seed = std::random_device()())
      : options_(options), random_(seed) {}

  // Seconds to wait before the next try, at least `retry_after_s`; nullopt: give up.
  std::optional<double> NextWait(double retry_after_s);
  // The last try brought something (a part of a file): the waits begin anew.
  void Gained() { tries_in_row_ = 0; }
  int tries() const { return tries_; }

 private:
  const RetryOptions options_;
  std::mt19937_64 random_;
  int tries_ = 0;
  int tries_in_row_ = 0;
  double waited_s_ = 0;
};

// Waits, with a line in the log that says for what; false once *stop is set.
bool WaitToRetry(double seconds, std::string_view what, const std::atomic<bool>* stop);

// Sends until an answer comes that is no passing fault, or the tries are used up: then the last
// answer or error. For requests without side effects.
Expected<HttpResponse> SendWithRetries(HttpClient* client, const HttpRequestSpec& request,
                                       const RetryOptions& options);

}  // namespace tiercel::net
