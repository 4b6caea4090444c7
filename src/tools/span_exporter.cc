#include "tools/span_exporter.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "net/retry.h"
#include "tools/otlp_json.h"

namespace tiercel::tools {
namespace {

net::HttpClientOptions WithTimes(net::HttpClientOptions http, double timeout_s) {
  http.connect_timeout_s = http.stall_timeout_s = timeout_s;
  http.max_body_bytes = 1 << 20;  // of an answer, which has a line or nothing
  return http;
}

// The statuses after which the protocol lets a body be sent again.
bool IsPassing(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

SpanExporter::SpanExporter(serving::OtlpTarget target, net::HttpClientOptions http,
                           SpanExporterOptions options)
    : target_(std::move(target)), options_(options),
      client_(WithTimes(std::move(http), options.timeout_s)), random_(std::random_device{}()) {
  queue_.reserve(options_.max_queued);
  thread_ = std::thread([this] { Run(); });
}

SpanExporter::~SpanExporter() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  changed_.notify_all();
  changed_.wait_for(lock, Seconds(options_.flush_s), [this] { return ended_; });
  lock.unlock();
  stop_ = true;
  thread_.join();
}

void SpanExporter::Push(server::RequestSpan span) {
  std::lock_guard lock(mutex_);
  if (queue_.size() >= options_.max_queued) {
    ++counts_.dropped;
    return;
  }
  queue_.push_back(std::move(span));
  // The thread begins to wait for a batch with its first span.
  if (queue_.size() == 1 || queue_.size() == options_.max_batch) changed_.notify_all();
}

server::SpanSink::Counts SpanExporter::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

void SpanExporter::Run() {
  Spans batch;
  batch.reserve(options_.max_batch);
  while (NextBatch(&batch)) {
    try {
      Send(batch);
    } catch (const std::bad_alloc&) {
      Drop(batch.size(), "no memory");
    }
  }
  std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

bool SpanExporter::NextBatch(Spans* batch) {
  batch->clear();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
  changed_.wait_for(lock, Seconds(options_.batch_delay_s),
                    [this] { return ending_ || queue_.size() >= options_.max_batch; });
  const auto count = static_cast<ptrdiff_t>(std::min(queue_.size(), options_.max_batch));
  std::move(queue_.begin(), queue_.begin() + count, std::back_inserter(*batch));
  queue_.erase(queue_.begin(), queue_.begin() + count);
  return !batch->empty();
}

void SpanExporter::Send(const Spans& batch) {
  if (stop_) return Drop(batch.size(), "the program ends");
  const std::string body = OtlpTracesBody(target_, batch, [this] { return random_(); });
  net::RetryOptions retry;
  retry.max_tries = options_.max_tries;
  retry.first_wait_s = options_.first_wait_s;
  net::Retries retries(retry);
  while (true) {
    const std::optional<Failure> failure = Try(body);
    if (!failure) break;
    const auto wait = failure->passing ? retries.NextWait(failure->retry_after_s) : std::nullopt;
    if (!wait || !WaitToRetry(*wait)) return Drop(batch.size(), failure->why);
  }
  std::lock_guard lock(mutex_);
  counts_.exported += batch.size();
}

std::optional<SpanExporter::Failure> SpanExporter::Try(const std::string& body) {
  net::HttpRequestSpec request;
  request.method = "POST";
  request.url = target_.url;
  request.headers = target_.headers;
  request.headers.emplace_back("Content-Type", "application/json");
  request.body = body;
  request.stop = &stop_;
  const auto response = client_.Send(request);
  if (!response) {
    return Failure{response.error().message(), response.error().code() == StatusCode::kUnavailable};
  }
  if (response->status >= 200 && response->status < 300) return std::nullopt;
  return Failure{fmt::format("{}: HTTP {}", target_.url, response->status),
                 IsPassing(response->status), response->retry_after_s};
}

bool SpanExporter::WaitToRetry(double seconds) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, Seconds(seconds), [this] { return ending_; });
}

void SpanExporter::Drop(size_t count, const std::string& why) {
  uint64_t dropped;
  {
    std::lock_guard lock(mutex_);
    dropped = counts_.dropped += count;
  }
  const double now = SteadyClock().Now();
  if (now < next_line_) return;
  next_line_ = now + options_.log_interval_s;
  LOG_WARNING("traces: {} spans were dropped: {}", dropped - std::exchange(told_dropped_, dropped), why);
}

}  // namespace tiercel::tools
