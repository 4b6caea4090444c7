// SpanExporter: sends spans to a collector, by a thread of its own, in batches.
//
// Nothing that a collector does reaches the server: the queue is bounded, a batch that is not taken after
// a few tries is dropped, and so is what finds the queue full. What was dropped is counted, and told in the
// log at most once in a while.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "net/http_client.h"
#include "server/tracing.h"
#include "serving/otlp_target.h"

namespace tiercel::tools {

struct SpanExporterOptions {
  size_t max_queued = 2048;      // spans, some 500 bytes each; OpenTelemetry's default
  size_t max_batch = 512;        // the same
  double batch_delay_s = 1;      // the most a span waits for others
  int max_tries = 3;             // of a batch
  double first_wait_s = 0.5;     // between them; doubles
  double timeout_s = 10;         // of a connection, and of an answer of which nothing comes
  double flush_s = 5;            // at the end
  double log_interval_s = 60;
};

class SpanExporter final : public server::SpanSink {
 public:
  SpanExporter(serving::OtlpTarget target, net::HttpClientOptions http, SpanExporterOptions options = {});
  // Sends what is queued, for flush_s at most.
  ~SpanExporter() override;

  void Push(server::RequestSpan span) override;
  Counts counts() const override;

 private:
  using Spans = std::vector<server::RequestSpan>;

  void Run();
  bool NextBatch(Spans* batch);  // false: there will be none
  void Send(const Spans& batch);
  // One try: why it failed, and the wait that the collector asks for; nullopt: it was taken.
  struct Failure {
    std::string why;
    bool passing = false;
    double retry_after_s = 0;
  };
  std::optional<Failure> Try(const std::string& body);
  bool WaitToRetry(double seconds);  // false: there is no time left
  void Drop(size_t count, const std::string& why);

  const serving::OtlpTarget target_;
  const SpanExporterOptions options_;
  net::HttpClient client_;       // the thread's
  std::mt19937_64 random_;       // the same
  double next_line_ = 0;         // the same: when the log may be told again
  uint64_t told_dropped_ = 0;    // the same

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Spans queue_;
  Counts counts_;
  bool ending_ = false, ended_ = false;
  std::atomic<bool> stop_{false};  // what is being sent
  std::thread thread_;
};

}  // namespace tiercel::tools
