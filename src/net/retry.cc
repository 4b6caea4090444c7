#include "net/retry.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "base/clock.h"
#include "base/log.h"

namespace tiercel::net {

bool IsPassing(int http_status) {
  return http_status == 408 || http_status == 429 || (http_status >= 500 && http_status != 501);
}

std::optional<double> Retries::NextWait(double retry_after_s) {
  ++tries_;
  ++tries_in_row_;
  if (tries_in_row_ >= options_.max_tries || tries_ >= options_.max_tries_in_all ||
      retry_after_s > options_.max_retry_after_s) {
    return std::nullopt;
  }
  const double longest =
      std::min(std::ldexp(options_.first_wait_s, tries_in_row_ - 1), options_.max_wait_s);
  const double jitter = std::uniform_real_distribution<>(0.5, 1.0)(random_);
  const double wait = std::max(longest * jitter, retry_after_s);
  if (waited_s_ + wait > options_.max_total_wait_s) return std::nullopt;
  waited_s_ += wait;
  return wait;
}

bool WaitToRetry(double seconds, std::string_view what, const std::atomic<bool>* stop) {
  LOG_WARNING("{}; trying again in {:.1f} s", what, seconds);
  const SteadyClock clock;
  const double end = clock.Now() + seconds;
  while (stop == nullptr || !stop->load()) {
    const double left = end - clock.Now();
    if (left <= 0) return true;
    std::this_thread::sleep_for(Seconds(std::min(left, 0.1)));
  }
  return false;
}

Expected<HttpResponse> SendWithRetries(HttpClient* client, const HttpRequestSpec& request,
                                       const RetryOptions& options) {
  Retries retries(options);
  while (true) {
    Expected<HttpResponse> response = client->Send(request);
    const bool passing = response ? IsPassing(response->status)
                                  : response.error().code() == StatusCode::kUnavailable;
    if (!passing) return response;
    const auto wait = retries.NextWait(response ? response->retry_after_s : 0);
    if (!wait) return response;
    const std::string what = response
                                 ? fmt::format("{}: HTTP {}", request.url, response->status)
                                 : response.error().message();
    if (!WaitToRetry(*wait, what, request.stop)) {
      return Unexpected(Status(StatusCode::kCancelled, "stopped"));
    }
  }
}

}  // namespace tiercel::net
