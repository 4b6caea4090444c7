// Transfer: one HTTP exchange on a handle of libcurl; what the clients of this folder share.
#pragma once

#include <curl/curl.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "net/http_client.h"
#include "net/url.h"

namespace tiercel::net {

using EasyHandle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;

// Once a process, before the first handle; any thread.
void InitCurl();
EasyHandle MakeEasyHandle();  // null: no memory

bool IsRedirect(int status);

// Stays where it is while libcurl works on it. `spec`, the sinks and `options` outlive it.
class Transfer {
 public:
  Transfer(CURL* easy, const HttpClientOptions& options, const HttpRequestSpec& spec,
           const HttpClient::Sink& sink, const HttpClient::OnHead& on_head)
      : easy_(easy), options_(options), spec_(spec), sink_(sink), on_head_(on_head) {}
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Tells the handle all of the exchange; its connections stay.
  Status Prepare(const Url& url);
  // What libcurl's end of the exchange means.
  Expected<HttpResponse> Finish(CURLcode code);

 private:
  void SetCertificates();
  void SetConnection();
  void SetMethod();
  Status SetHeaders();

  static size_t OnHeaderLine(char* data, size_t size, size_t count, void* transfer);
  static size_t OnBody(char* data, size_t size, size_t count, void* transfer);
  static int OnTick(void* transfer, curl_off_t, curl_off_t, curl_off_t, curl_off_t);

  bool TakeHeaderLine(std::string_view line);
  bool EndHead();
  bool TakeBody(std::string_view piece);
  bool Fail(Status status);
  bool Stopped() { return Fail(Status(StatusCode::kCancelled, "stopped")); }
  Status TransportError(CURLcode code) const;

  CURL* const easy_;
  const HttpClientOptions& options_;
  const HttpRequestSpec& spec_;
  const HttpClient::Sink& sink_;
  const HttpClient::OnHead& on_head_;

  Url url_;
  std::string where_;  // its text
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> lines_{nullptr, &curl_slist_free_all};
  char detail_[CURL_ERROR_SIZE] = "";
  HttpResponse response_;
  size_t head_bytes_ = 0;
  int64_t body_bytes_ = 0;  // collected or thrown away
  bool head_done_ = false;
  Status failure_;  // why a callback ended the transfer
};

}  // namespace tiercel::net
