#include "net/http_client.h"

#include "base/ascii_case.h"
#include "net/blocked_signals.h"
#include "net/transfer.h"
#include "net/url.h"

namespace tiercel::net {
namespace {

std::string FirstOf(const Environ& environ, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (std::string value = EnvValue(environ, name); !value.empty()) return value;
  }
  return "";
}

}  // namespace

HttpClientOptions HttpClientOptions::FromEnviron(const Environ& environ) {
  HttpClientOptions options;
  const std::string any = FirstOf(environ, {"all_proxy", "ALL_PROXY"});
  options.https_proxy = FirstOf(environ, {"https_proxy", "HTTPS_PROXY"});
  options.http_proxy = FirstOf(environ, {"http_proxy", "HTTP_PROXY"});
  if (options.https_proxy.empty()) options.https_proxy = any;
  if (options.http_proxy.empty()) options.http_proxy = any;
  options.no_proxy = FirstOf(environ, {"no_proxy", "NO_PROXY"});
  for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}) {
    options.ca_path = EnvValue(environ, name);
    options.ca_source = name;
    if (!options.ca_path.empty()) break;
  }
  return options;
}

std::optional<std::string> HttpResponse::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (EqualsNoCase(key, name)) return value;
  }
  return std::nullopt;
}

struct HttpClient::Impl {
  explicit Impl(HttpClientOptions given) : options(std::move(given)) {}

  HttpClientOptions options;
  EasyHandle easy = MakeEasyHandle();  // keeps its connections between requests

  Expected<HttpResponse> Exchange(const HttpRequestSpec& spec, const Url& url, const Sink& sink,
                                  const OnHead& on_head) {
    Transfer transfer(easy.get(), options, spec, sink, on_head);
    RETURN_IF_ERROR(transfer.Prepare(url));
    return transfer.Finish(curl_easy_perform(easy.get()));
  }
};

HttpClient::HttpClient(HttpClientOptions options) {
  InitCurl();
  impl_ = std::make_unique<Impl>(std::move(options));
}

HttpClient::~HttpClient() = default;

Expected<HttpResponse> HttpClient::Send(const HttpRequestSpec& request, const Sink& sink,
                                        const OnHead& on_head) {
  const BlockedSignals blocked;
  if (impl_->easy == nullptr) return Unexpected(ResourceExhausted("libcurl cannot be started"));
  HttpRequestSpec spec = request;
  ASSIGN_OR_RETURN(Url url, Url::Parse(spec.url));
  for (int redirects = 0;; ++redirects) {
    ASSIGN_OR_RETURN(HttpResponse response, impl_->Exchange(spec, url, sink, on_head));
    const std::optional<std::string> location = response.header("Location");
    if (!IsRedirect(response.status) || !location || !request.follow_redirects) return response;
    if (redirects >= impl_->options.max_redirects) {
      return Unexpected(
          FailedPrecondition("{}: more than {} redirects", request.url, redirects));
    }
    ASSIGN_OR_RETURN(Url next, url.Resolve(*location));
    if (url.scheme == "https" && next.scheme == "http") {
      return Unexpected(FailedPrecondition("{}: refused to be redirected from https to {}",
                                           request.url, next.Origin()));
    }
    if (next.Origin() != url.Origin()) {
      std::erase_if(spec.headers,
                    [](const auto& header) { return EqualsNoCase(header.first, "Authorization"); });
    }
    if (response.status == 303 && spec.method != "HEAD") {
      spec.method = "GET";
      spec.body.clear();
    }
    url = std::move(next);
  }
}

Expected<HttpResponse> HttpClient::Get(const std::string& url, HttpHeaders headers) {
  return Send({"GET", url, std::move(headers), ""});
}

Expected<HttpResponse> HttpClient::PostJson(const std::string& url, std::string body,
                                            HttpHeaders headers) {
  headers.emplace_back("Content-Type", "application/json");
  return Send({"POST", url, std::move(headers), std::move(body)});
}

}  // namespace tiercel::net
