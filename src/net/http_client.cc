#include "net/http_client.h"

#include <curl/curl.h>
#include <strings.h>
#include <sys/stat.h>

#include <algorithm>
#include <mutex>
#include <new>

#include "net/blocked_signals.h"
#include "net/url.h"

namespace tiercel::net {
namespace {

// Of all header lines of one answer. Hubs send 2 to 4 KiB.
constexpr size_t kMaxHeadBytes = 64 << 10;

bool EqualsNoCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

std::string FirstOf(const Environ& environ, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (std::string value = EnvValue(environ, name); !value.empty()) return value;
  }
  return "";
}

// One exchange as libcurl's callbacks see it.
struct Transfer {
  CURL* easy;
  const HttpClient::Sink& sink;
  const HttpClient::OnHead& on_head;
  const std::atomic<bool>* stop;
  int64_t max_body_bytes;
  std::string where;  // the URL, for messages

  HttpResponse response{};
  size_t head_bytes = 0;
  int64_t body_bytes = 0;  // collected or thrown away
  bool head_done = false;
  Status failure{};  // why a callback ended the transfer

  bool Fail(Status status) {
    failure = std::move(status);
    return false;
  }
  bool Stopped() { return Fail(Status(StatusCode::kCancelled, "stopped")); }

  bool TakeHeaderLine(std::string_view line) {
    if (head_done) return true;  // a trailer
    head_bytes += line.size();
    if (head_bytes > kMaxHeadBytes) {
      return Fail(ResourceExhausted("{}: the answer's head is larger than {} bytes", where,
                                    kMaxHeadBytes));
    }
    if (line.starts_with("HTTP/")) {
      response.headers.clear();
      return true;
    }
    line = Trim(line);
    if (line.empty()) return EndHead();
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    response.headers.emplace_back(Trim(line.substr(0, colon)), Trim(line.substr(colon + 1)));
    return true;
  }

  bool EndHead() {
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (status / 100 == 1) return true;  // another head follows
    head_done = true;
    response.status = static_cast<int>(status);
    if (!IsRedirect(response.status) && on_head && !on_head(response)) return Stopped();
    return true;
  }

  bool TakeBody(std::string_view piece) {
    if (sink && response.status / 100 == 2) return sink(piece) || Stopped();
    body_bytes += static_cast<int64_t>(piece.size());
    if (body_bytes > max_body_bytes) {
      return Fail(
          ResourceExhausted("{}: the answer is larger than {} bytes", where, max_body_bytes));
    }
    if (!IsRedirect(response.status)) response.body += piece;
    return true;
  }
};

size_t OnHeaderLine(char* data, size_t size, size_t count, void* transfer) {
  return static_cast<Transfer*>(transfer)->TakeHeaderLine({data, size * count}) ? size * count : 0;
}

size_t OnBody(char* data, size_t size, size_t count, void* transfer) {
  const size_t bytes = size * count;
  // Fewer than given ends the transfer; so would 0 of 0, which does not come.
  return static_cast<Transfer*>(transfer)->TakeBody({data, bytes}) ? bytes : 0;
}

// Called once a second at least, whether anything comes or not.
int OnTick(void* data, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto* transfer = static_cast<Transfer*>(data);
  return transfer->stop != nullptr && transfer->stop->load() && !transfer->Stopped() ? 1 : 0;
}

// libcurl's error as one of ours.
Status TransportError(const Url& url, CURLcode code, const char* detail,
                      const HttpClientOptions& options) {
  const std::string text = detail[0] != '\0' ? detail : curl_easy_strerror(code);
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
    return FailedPrecondition("{}: {}; certificates are from {}", url.Origin(), text,
                              options.ca_path.empty()
                                  ? "the system (another file: SSL_CERT_FILE)"
                                  : fmt::format("{}={}", options.ca_source, options.ca_path));
  }
  return Unavailable("{}: {}", url.Origin(), text);
}

using HeaderList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

Expected<HeaderList> RequestHeaders(const HttpHeaders& headers) {
  HeaderList list(nullptr, &curl_slist_free_all);
  const auto add = [&](const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    (void)list.release();
    list.reset(longer);
  };
  // What libcurl would add by itself is taken out by a name without a value.
  add("Expect:");
  bool has_type = false, has_agent = false;
  for (const auto& [name, value] : headers) {
    if (value.find_first_of(std::string_view("\r\n\0", 3)) != value.npos) {
      return Unexpected(InvalidArgument("the value of header {} has line breaks in it", name));
    }
    has_type |= EqualsNoCase(name, "Content-Type");
    has_agent |= EqualsNoCase(name, "User-Agent");
    add(value.empty() ? name + ";" : name + ": " + value);
  }
  if (!has_type) add("Content-Type:");
  if (!has_agent) add("User-Agent: tiercel");
  return list;
}

void InitCurl() {
  // Once a process, as libcurl asks for; before 7.84 it is not safe to leave to the first handle.
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
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
  // Keeps its connections between requests.
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> easy{curl_easy_init(), &curl_easy_cleanup};

  void SetCertificates() {
    if (options.ca_path.empty()) return;
    struct stat info {};
    const bool folder = ::stat(options.ca_path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    curl_easy_setopt(easy.get(), folder ? CURLOPT_CAPATH : CURLOPT_CAINFO, options.ca_path.c_str());
    curl_easy_setopt(easy.get(), folder ? CURLOPT_PROXY_CAPATH : CURLOPT_PROXY_CAINFO,
                     options.ca_path.c_str());
  }

  void SetConnection(const Url& url) {
    CURL* handle = easy.get();
    curl_easy_reset(handle);  // connections stay
    curl_easy_setopt(handle, CURLOPT_URL, url.Text().c_str());
    curl_easy_setopt(handle, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(options.connect_timeout_s * 1e3));
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall_timeout_s));
    SetCertificates();
    // Given even when empty: libcurl would read the variables by rules of its own.
    const std::string& proxy = url.scheme == "https" ? options.https_proxy : options.http_proxy;
    curl_easy_setopt(handle, CURLOPT_PROXY, url.IsLoopback() ? "" : proxy.c_str());
    curl_easy_setopt(handle, CURLOPT_NOPROXY, options.no_proxy.c_str());
    curl_easy_setopt(handle, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  }

  void SetMethod(const HttpRequestSpec& spec) {
    CURL* handle = easy.get();
    if (spec.method == "HEAD") {
      curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    } else if (!spec.body.empty() || spec.method == "POST" || spec.method == "PUT") {
      curl_easy_setopt(handle, CURLOPT_POSTFIELDS, spec.body.data());
      curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                       static_cast<curl_off_t>(spec.body.size()));
      curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, spec.method.c_str());
    } else {
      curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, spec.method.c_str());
    }
  }

  Expected<HttpResponse> Exchange(const HttpRequestSpec& spec, const Url& url, const Sink& sink,
                                  const OnHead& on_head) {
    CURL* handle = easy.get();
    SetConnection(url);
    SetMethod(spec);
    ASSIGN_OR_RETURN(const HeaderList lines, RequestHeaders(spec.headers));
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, lines.get());

    Transfer transfer{handle, sink, on_head, spec.stop, options.max_body_bytes, url.Text()};
    char detail[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, &OnHeaderLine);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &OnBody);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, &OnTick);
    curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &transfer);
    const CURLcode code = curl_easy_perform(handle);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, nullptr);
    if (!transfer.failure.ok()) return Unexpected(std::move(transfer.failure));
    if (code != CURLE_OK) return Unexpected(TransportError(url, code, detail, options));
    transfer.response.final_url = url.Text();
    curl_off_t wait = 0;
    if (curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK) {
      transfer.response.retry_after_s = static_cast<double>(wait);
    }
    return std::move(transfer.response);
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
