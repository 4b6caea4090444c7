#include "net/async_http_client.h"

#include <cmath>
#include <unordered_map>
#include <utility>
#include <vector>

#include "net/blocked_signals.h"
#include "net/transfer.h"
#include "net/url.h"

namespace tiercel::net {
namespace {

Status MultiError(CURLMcode code) { return Internal("libcurl: {}", curl_multi_strerror(code)); }

class CurlClient final : public AsyncHttpClient {
 public:
  explicit CurlClient(HttpClientOptions options) : options_(std::move(options)) {}
  ~CurlClient() override {
    for (const auto& [easy, exchange] : running_) curl_multi_remove_handle(multi_.get(), easy);
  }

  bool usable() const { return multi_ != nullptr; }

  void Start(HttpRequestSpec spec, HttpClient::Sink sink, OnDone on_done) override {
    auto exchange = std::make_unique<Exchange>(std::move(spec), std::move(sink), std::move(on_done),
                                               TakeHandle(), options_);
    if (Status status = Add(exchange.get()); !status.ok()) {
      failed_.emplace_back(std::move(exchange->on_done), std::move(status));
      return;
    }
    CURL* const easy = exchange->easy.get();
    running_.emplace(easy, std::move(exchange));
  }

  Status Poll(double seconds) override {
    const BlockedSignals blocked;
    const std::vector<std::pair<OnDone, Status>> failed = std::exchange(failed_, {});
    // Rounded up: a wait that is over too early would be followed by one of nothing.
    const int wait_ms = failed.empty() ? static_cast<int>(std::ceil(seconds * 1e3)) : 0;
    CURLMcode code = curl_multi_poll(multi_.get(), nullptr, 0, wait_ms, nullptr);
    int left = 0;
    if (code == CURLM_OK) code = curl_multi_perform(multi_.get(), &left);
    if (code != CURLM_OK) return MultiError(code);
    for (const auto& [on_done, status] : failed) on_done(Unexpected(status));
    int queued = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &queued)) {
      if (message->msg == CURLMSG_DONE) End(message->easy_handle, message->data.result);
    }
    return OkStatus();
  }

 private:
  struct Exchange {
    Exchange(HttpRequestSpec given, HttpClient::Sink given_sink, OnDone given_done,
             EasyHandle handle, const HttpClientOptions& options)
        : spec(std::move(given)),
          sink(std::move(given_sink)),
          on_done(std::move(given_done)),
          easy(std::move(handle)),
          transfer(easy.get(), options, spec, sink, on_head) {}

    const HttpRequestSpec spec;
    const HttpClient::Sink sink;
    const HttpClient::OnHead on_head;
    OnDone on_done;
    EasyHandle easy;
    Transfer transfer;
  };

  EasyHandle TakeHandle() {
    if (idle_.empty()) return MakeEasyHandle();
    EasyHandle easy = std::move(idle_.back());
    idle_.pop_back();
    return easy;
  }

  Status Add(Exchange* exchange) {
    if (exchange->easy == nullptr) return ResourceExhausted("libcurl has no memory for a request");
    ASSIGN_OR_RETURN(const Url url, Url::Parse(exchange->spec.url));
    RETURN_IF_ERROR(exchange->transfer.Prepare(url));
    const CURLMcode code = curl_multi_add_handle(multi_.get(), exchange->easy.get());
    return code == CURLM_OK ? OkStatus() : MultiError(code);
  }

  void End(CURL* easy, CURLcode code) {
    curl_multi_remove_handle(multi_.get(), easy);
    const auto at = running_.find(easy);
    const std::unique_ptr<Exchange> exchange = std::move(at->second);
    running_.erase(at);
    Expected<HttpResponse> response = exchange->transfer.Finish(code);
    curl_easy_reset(easy);  // knows nothing of the exchange any more
    idle_.push_back(std::move(exchange->easy));
    exchange->on_done(std::move(response));
  }

  const HttpClientOptions options_;
  std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)> multi_{curl_multi_init(),
                                                               &curl_multi_cleanup};
  std::vector<EasyHandle> idle_;
  std::unordered_map<CURL*, std::unique_ptr<Exchange>> running_;
  std::vector<std::pair<OnDone, Status>> failed_;  // could not begin; told by the next Poll
};

}  // namespace

Expected<std::unique_ptr<AsyncHttpClient>> AsyncHttpClient::Create(HttpClientOptions options) {
  InitCurl();
  auto client = std::make_unique<CurlClient>(std::move(options));
  if (!client->usable()) return Unexpected(ResourceExhausted("libcurl cannot be started"));
  return client;
}

}  // namespace tiercel::net
