#include "net/transfer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <mutex>
#include <new>

#include "base/ascii_case.h"
#include "base/split.h"

namespace tiercel::net {
namespace {

// Of all header lines of one answer. Hubs send 2 to 4 KiB.
constexpr size_t kMaxHeadBytes = 64 << 10;

// Around names and values, and the end of a line.
constexpr std::string_view kBlanks = " \t\r\n";

// A libcurl of the system knows where its certificates are: "". One that came with the program does not: they are where
// Debian, Fedora, SUSE or Alpine have them.
std::string SystemCertificates() {
  const curl_version_info_data* curl = curl_version_info(CURLVERSION_NOW);
  if (curl->cainfo != nullptr || curl->capath != nullptr) return "";
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                           "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    if (::access(path, R_OK) == 0) return path;
  }
  return "";
}

}  // namespace

void InitCurl() {
  // Once a process, as libcurl asks for; before 7.84 it is not safe to leave to the first handle.
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

EasyHandle MakeEasyHandle() { return EasyHandle(curl_easy_init(), &curl_easy_cleanup); }

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

Status Transfer::Prepare(const Url& url) {
  url_ = url;
  where_ = url_.Text();
  curl_easy_reset(easy_);
  SetConnection();
  SetCertificates();
  SetMethod();
  RETURN_IF_ERROR(SetHeaders());
  curl_easy_setopt(easy_, CURLOPT_ERRORBUFFER, detail_);
  curl_easy_setopt(easy_, CURLOPT_HEADERFUNCTION, &OnHeaderLine);
  curl_easy_setopt(easy_, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(easy_, CURLOPT_WRITEFUNCTION, &OnBody);
  curl_easy_setopt(easy_, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(easy_, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(easy_, CURLOPT_XFERINFOFUNCTION, &OnTick);
  curl_easy_setopt(easy_, CURLOPT_XFERINFODATA, this);
  return OkStatus();
}

Expected<HttpResponse> Transfer::Finish(CURLcode code) {
  curl_easy_setopt(easy_, CURLOPT_ERRORBUFFER, nullptr);
  if (!failure_.ok()) return Unexpected(std::move(failure_));
  if (code != CURLE_OK) return Unexpected(TransportError(code));
  response_.final_url = where_;
  curl_off_t wait = 0;
  if (curl_easy_getinfo(easy_, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK) {
    response_.retry_after_s = static_cast<double>(wait);
  }
  return std::move(response_);
}

void Transfer::SetConnection() {
  curl_easy_setopt(easy_, CURLOPT_URL, where_.c_str());
  curl_easy_setopt(easy_, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy_, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy_, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(options_.connect_timeout_s * 1e3));
  curl_easy_setopt(easy_, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(easy_, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options_.stall_timeout_s));
  // Given even when empty: libcurl would read the variables by rules of its own.
  const std::string& proxy = url_.scheme == "https" ? options_.https_proxy : options_.http_proxy;
  curl_easy_setopt(easy_, CURLOPT_PROXY, url_.IsLoopback() ? "" : proxy.c_str());
  curl_easy_setopt(easy_, CURLOPT_NOPROXY, options_.no_proxy.c_str());
  curl_easy_setopt(easy_, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
}

void Transfer::SetCertificates() {
  if (!options_.verify_peer) {
    curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  const std::string path = options_.ca_path.empty() ? SystemCertificates() : options_.ca_path;
  if (path.empty()) return;
  struct stat info {};
  const bool folder = ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  curl_easy_setopt(easy_, folder ? CURLOPT_CAPATH : CURLOPT_CAINFO, path.c_str());
  curl_easy_setopt(easy_, folder ? CURLOPT_PROXY_CAPATH : CURLOPT_PROXY_CAINFO, path.c_str());
}

void Transfer::SetMethod() {
  if (spec_.method == "HEAD") {
    curl_easy_setopt(easy_, CURLOPT_NOBODY, 1L);
  } else if (!spec_.body.empty() || spec_.method == "POST" || spec_.method == "PUT") {
    curl_easy_setopt(easy_, CURLOPT_POSTFIELDS, spec_.body.data());
    curl_easy_setopt(easy_, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(spec_.body.size()));
    curl_easy_setopt(easy_, CURLOPT_CUSTOMREQUEST, spec_.method.c_str());
  } else {
    curl_easy_setopt(easy_, CURLOPT_CUSTOMREQUEST, spec_.method.c_str());
  }
}

Status Transfer::SetHeaders() {
  const auto add = [&](const std::string& line) {
    curl_slist* longer = curl_slist_append(lines_.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    (void)lines_.release();
    lines_.reset(longer);
  };
  // What libcurl would add by itself is taken out by a name without a value.
  add("Expect:");
  bool has_type = false, has_agent = false;
  for (const auto& [name, value] : spec_.headers) {
    if (value.find_first_of(std::string_view("\r\n\0", 3)) != value.npos) {
      return InvalidArgument("the value of header {} has line breaks in it", name);
    }
    has_type |= EqualsNoCase(name, "Content-Type");
    has_agent |= EqualsNoCase(name, "User-Agent");
    add(value.empty() ? name + ";" : name + ": " + value);
  }
  if (!has_type) add("Content-Type:");
  if (!has_agent) add("User-Agent: tiercel");
  curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, lines_.get());
  return OkStatus();
}

size_t Transfer::OnHeaderLine(char* data, size_t size, size_t count, void* transfer) {
  const size_t bytes = size * count;
  return static_cast<Transfer*>(transfer)->TakeHeaderLine({data, bytes}) ? bytes : 0;
}

size_t Transfer::OnBody(char* data, size_t size, size_t count, void* transfer) {
  const size_t bytes = size * count;
  // Fewer than given ends the transfer; so would 0 of 0, which does not come.
  return static_cast<Transfer*>(transfer)->TakeBody({data, bytes}) ? bytes : 0;
}

// Called once a second at least, whether anything comes or not.
int Transfer::OnTick(void* data, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto* transfer = static_cast<Transfer*>(data);
  const std::atomic<bool>* stop = transfer->spec_.stop;
  return stop != nullptr && stop->load() && !transfer->Stopped() ? 1 : 0;
}

bool Transfer::Fail(Status status) {
  failure_ = std::move(status);
  return false;
}

bool Transfer::TakeHeaderLine(std::string_view line) {
  if (head_done_) return true;  // a trailer
  head_bytes_ += line.size();
  if (head_bytes_ > kMaxHeadBytes) {
    return Fail(
        ResourceExhausted("{}: the answer's head is larger than {} bytes", where_, kMaxHeadBytes));
  }
  if (line.starts_with("HTTP/")) {
    response_.headers.clear();
    return true;
  }
  line = Trimmed(line, kBlanks);
  if (line.empty()) return EndHead();
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return true;
  response_.headers.emplace_back(Trimmed(line.substr(0, colon), kBlanks),
                                 Trimmed(line.substr(colon + 1), kBlanks));
  return true;
}

bool Transfer::EndHead() {
  long status = 0;
  curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
  if (status / 100 == 1) return true;  // another head follows
  head_done_ = true;
  response_.status = static_cast<int>(status);
  if (!IsRedirect(response_.status) && on_head_ && !on_head_(response_)) return Stopped();
  return true;
}

bool Transfer::TakeBody(std::string_view piece) {
  if (sink_ && response_.status / 100 == 2) return sink_(piece) || Stopped();
  body_bytes_ += static_cast<int64_t>(piece.size());
  if (body_bytes_ > options_.max_body_bytes) {
    return Fail(ResourceExhausted("{}: the answer is larger than {} bytes", where_,
                                  options_.max_body_bytes));
  }
  if (!IsRedirect(response_.status)) response_.body += piece;
  return true;
}

// libcurl's error as one of ours.
Status Transfer::TransportError(CURLcode code) const {
  const std::string text = detail_[0] != '\0' ? detail_ : curl_easy_strerror(code);
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
    return FailedPrecondition("{}: {}; certificates are from {}", url_.Origin(), text,
                              options_.ca_path.empty()
                                  ? "the system (another file: SSL_CERT_FILE)"
                                  : fmt::format("{}={}", options_.ca_source, options_.ca_path));
  }
  return Unavailable("{}: {}", url_.Origin(), text);
}

}  // namespace tiercel::net
