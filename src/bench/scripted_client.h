// ScriptedClient: an AsyncHttpClient without sockets, for tests: answers come at scripted times of
// a clock that only it advances.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "net/async_http_client.h"

namespace tiercel::bench {

// Seconds after the request began, and what comes then.
struct ScriptedAnswer {
  std::vector<std::pair<double, std::string>> pieces;
  double end_s = 0;
  Expected<net::HttpResponse> end = [] {
    net::HttpResponse response;
    response.status = 200;
    return response;
  }();
};

class ScriptedClient final : public net::AsyncHttpClient {
 public:
  using Script = std::function<ScriptedAnswer(const net::HttpRequestSpec& spec, size_t index)>;

  ScriptedClient(FakeClock* clock, Script script) : clock_(clock), script_(std::move(script)) {}

  void Start(net::HttpRequestSpec spec, net::HttpClient::Sink sink, OnDone on_done) override {
    const double now = clock_->Now();
    const ScriptedAnswer answer = script_(spec, specs_.size());
    specs_.push_back(std::move(spec));
    starts_s_.push_back(now);
    most_at_once_ = std::max(most_at_once_, ++running_);
    for (const auto& [after_s, piece] : answer.pieces) {
      events_.push_back({now + after_s, [sink, piece = piece] { sink(piece); }});
    }
    events_.push_back({now + answer.end_s, [this, on_done = std::move(on_done), end = answer.end] {
                         --running_;
                         on_done(end);
                       }});
  }

  Status Poll(double seconds) override {
    const auto next =
        std::min_element(events_.begin(), events_.end(),
                         [](const Event& a, const Event& b) { return a.at_s < b.at_s; });
    const double now = clock_->Now();
    if (next == events_.end() || next->at_s > now + seconds) {
      clock_->Advance(seconds);
      return OkStatus();
    }
    const Event event = *next;
    events_.erase(next);
    clock_->Advance(event.at_s - now);
    event.happen();
    return OkStatus();
  }

  const std::vector<net::HttpRequestSpec>& specs() const { return specs_; }
  const std::vector<double>& starts_s() const { return starts_s_; }
  int most_at_once() const { return most_at_once_; }

 private:
  struct Event {
    double at_s;
    std::function<void()> happen;
  };

  FakeClock* const clock_;
  const Script script_;
  std::vector<Event> events_;
  std::vector<net::HttpRequestSpec> specs_;
  std::vector<double> starts_s_;
  int running_ = 0, most_at_once_ = 0;
};

}  // namespace tiercel::bench
