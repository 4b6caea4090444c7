#include "server/http_client.h"

#include <algorithm>
#include <array>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cstdio>
#include <filesystem>

#include "server/http_server.h"

namespace tiercel::server {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using asio::ip::tcp;
using PlainStream = beast::tcp_stream;
using SecureStream = asio::ssl::stream<beast::tcp_stream>;

constexpr size_t kPiece = 64 << 10;

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

Status TransportError(const Url& url, const char* what, const error_code& error) {
  const std::string text = error == beast::error::timeout ? "timed out" : error.message();
  return Unavailable("{}://{}:{}: {}: {}", url.scheme, url.host, url.port, what, text);
}

bool SameOrigin(const Url& a, const Url& b) {
  return a.scheme == b.scheme && a.host == b.host && a.port == b.port;
}

}  // namespace

Expected<Url> Url::Parse(std::string_view text) {
  const auto bad = [&](const char* why) {
    return Unexpected(InvalidArgument("URL {}: {}", text, why));
  };
  if (std::any_of(text.begin(), text.end(),
                  [](unsigned char c) { return c <= 0x20 || c == 0x7f || c == '\\'; })) {
    return bad("blanks, control characters and backslashes are not allowed");
  }
  Url url;
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return bad("expected http:// or https://");
  url.scheme = text.substr(0, scheme_end);
  if (url.scheme != "http" && url.scheme != "https") return bad("expected http:// or https://");
  std::string_view rest = text.substr(scheme_end + 3);
  rest = rest.substr(0, rest.find('#'));
  const size_t target = rest.find_first_of("/?");
  std::string_view authority = rest.substr(0, target);
  url.target = target == std::string_view::npos ? "/" : std::string(rest.substr(target));
  if (url.target.front() == '?') url.target.insert(0, "/");
  if (authority.find('@') != std::string_view::npos) return bad("user names are not supported");
  std::string_view port;
  if (!authority.empty() && authority.front() == '[') {
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) return bad("expected ] after the IPv6 address");
    url.host = authority.substr(1, close - 1);
    authority.remove_prefix(close + 1);
    if (!authority.empty() && authority.front() != ':') return bad("expected :port after ]");
    if (!authority.empty()) port = authority.substr(1);
  } else {
    const size_t colon = authority.find(':');
    url.host = authority.substr(0, colon);
    if (colon != std::string_view::npos) port = authority.substr(colon + 1);
  }
  if (url.host.empty()) return bad("the host is missing");
  if (!port.empty() && (port.size() > 5 || port.find_first_not_of("0123456789") != port.npos)) {
    return bad("the port is not a number");
  }
  url.port = port.empty() ? (url.scheme == "https" ? "443" : "80") : std::string(port);
  return url;
}

Expected<Url> Url::Resolve(std::string_view reference) const {
  if (reference.find("://") != std::string_view::npos) return Parse(reference);
  if (reference.substr(0, 2) == "//") return Parse(scheme + ":" + std::string(reference));
  Url url = *this;
  if (!reference.empty() && reference.front() == '/') {
    url.target = reference;
  } else {
    const std::string path = target.substr(0, target.find('?'));
    url.target = path.substr(0, path.rfind('/') + 1) + std::string(reference);
  }
  url.target = url.target.substr(0, url.target.find('#'));
  if (std::any_of(url.target.begin(), url.target.end(),
                  [](unsigned char c) { return c <= 0x20 || c == 0x7f; })) {
    return Unexpected(InvalidArgument("redirect to {}: not a URL", reference));
  }
  return url;
}

std::optional<std::string> HttpResponse::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (EqualsNoCase(key, name)) return value;
  }
  return std::nullopt;
}

struct HttpClient::Impl {
  HttpClientOptions options;
  asio::io_context context{1};
  std::unique_ptr<asio::ssl::context> tls;
  std::unique_ptr<PlainStream> plain;
  std::unique_ptr<SecureStream> secure;
  beast::flat_buffer buffer;
  Url origin;  // of the open connection

  bool open() const { return plain != nullptr || secure != nullptr; }

  void Close() {
    plain.reset();
    secure.reset();
    buffer.clear();
  }

  // Runs one asynchronous operation to its end: the streams' timeouts work only on those.
  template <typename Start>
  error_code Await(Start start) {
    error_code result;
    start([&result](error_code error, auto&&...) { result = error; });
    context.restart();
    context.run();
    return result;
  }

  static beast::tcp_stream& Lowest(PlainStream& stream) { return stream; }
  static beast::tcp_stream& Lowest(SecureStream& stream) { return stream.next_layer(); }

  template <typename Stream>
  void SetTimeout(Stream& stream, double seconds) {
    if (seconds > 0) {
      Lowest(stream).expires_after(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3)));
    } else {
      Lowest(stream).expires_never();
    }
  }

  Status Connect(const Url& url) {
    Close();
    origin = url;
    error_code error;
    tcp::resolver resolver(context);
    const auto results = resolver.resolve(url.host, url.port, error);
    if (error) return TransportError(url, "cannot resolve the host", error);
    auto stream = std::make_unique<PlainStream>(context);
    SetTimeout(*stream, options.connect_timeout_s);
    error = Await([&](auto done) { stream->async_connect(results, done); });
    if (error) return TransportError(url, "cannot connect", error);
    stream->socket().set_option(tcp::no_delay(true), error);
    if (url.scheme == "http") {
      plain = std::move(stream);
      return OkStatus();
    }
    return StartTls(url, std::move(*stream));
  }

  Status StartTls(const Url& url, PlainStream stream) {
    error_code error;
    if (tls == nullptr) {
      tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_client);
      if (options.ca_file.empty()) {
        tls->set_default_verify_paths(error);
      } else {
        tls->load_verify_file(options.ca_file, error);
        if (error) return InvalidArgument("CA file {}: {}", options.ca_file, error.message());
      }
      tls->set_verify_mode(options.verify_tls ? asio::ssl::verify_peer : asio::ssl::verify_none);
    }
    secure = std::make_unique<SecureStream>(std::move(stream), *tls);
    if (options.verify_tls) secure->set_verify_callback(asio::ssl::host_name_verification(url.host));
    SSL_set_tlsext_host_name(secure->native_handle(), url.host.c_str());
    SetTimeout(*secure, options.connect_timeout_s);
    error = Await(
        [&](auto done) { secure->async_handshake(asio::ssl::stream_base::client, done); });
    if (error) {
      secure.reset();
      return TransportError(url, "TLS handshake", error);
    }
    return OkStatus();
  }

  // One exchange on the open connection. `sent_nothing` tells that a kept-alive connection had
  // been closed by the other side, so that the request may be sent again.
  template <typename Stream>
  Expected<HttpResponse> Exchange(Stream& stream, const HttpRequestSpec& spec, const Url& url,
                                  const Sink& sink, const OnHead& on_head, bool* retry) {
    http::request<http::string_body> request;
    request.method_string(spec.method);
    request.target(url.target);
    request.version(11);
    const std::string host = url.host.find(':') != std::string::npos ? "[" + url.host + "]" : url.host;
    const bool default_port = url.port == (url.scheme == "https" ? "443" : "80");
    request.set(http::field::host, default_port ? host : host + ":" + url.port);
    request.set(http::field::user_agent, "tiercel");
    request.set(http::field::accept, "*/*");
    for (const auto& [name, value] : spec.headers) request.set(name, value);
    request.body() = spec.body;
    if (!spec.body.empty() || spec.method == "POST" || spec.method == "PUT") request.prepare_payload();

    SetTimeout(stream, options.idle_timeout_s);
    error_code error = Await([&](auto done) { http::async_write(stream, request, done); });
    if (error) {
      *retry = true;
      return Unexpected(TransportError(url, "sending the request", error));
    }
    http::response_parser<http::buffer_body> parser;
    parser.header_limit(256 << 10);
    parser.body_limit(boost::none);
    if (spec.method == "HEAD") parser.skip(true);
    SetTimeout(stream, options.idle_timeout_s);
    error = Await([&](auto done) { http::async_read_header(stream, buffer, parser, done); });
    if (error) {
      *retry = error == http::error::end_of_stream || error == asio::error::connection_reset;
      return Unexpected(TransportError(url, "reading the answer", error));
    }
    HttpResponse response;
    response.status = static_cast<int>(parser.get().result_int());
    for (const auto& field : parser.get()) {
      response.headers.emplace_back(std::string(field.name_string().data(), field.name_string().size()),
                                    std::string(field.value().data(), field.value().size()));
    }
    response.final_url = fmt::format("{}://{}{}{}", url.scheme, host,
                                     default_port ? "" : ":" + url.port, url.target);
    if (!IsRedirect(response.status) && on_head && !on_head(response)) {
      return Unexpected(Status(StatusCode::kCancelled, "stopped"));
    }
    RETURN_IF_ERROR(ReadBody(stream, url, parser, sink, &response));
    if (!parser.get().keep_alive()) Close();
    return response;
  }

  template <typename Stream>
  Status ReadBody(Stream& stream, const Url& url, http::response_parser<http::buffer_body>& parser,
                  const Sink& sink, HttpResponse* response) {
    const bool to_sink = sink && response->status / 100 == 2;
    std::vector<char> piece(kPiece);
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      SetTimeout(stream, options.idle_timeout_s);
      error_code error =
          Await([&](auto done) { http::async_read_some(stream, buffer, parser, done); });
      if (error == http::error::need_buffer) error = {};
      // Many servers end TLS without saying so; the message's own length tells if all is there.
      if (error == asio::ssl::error::stream_truncated && parser.is_done()) error = {};
      const size_t size = piece.size() - parser.get().body().size;
      const std::string_view got(piece.data(), size);
      if (to_sink) {
        if (size > 0 && !sink(got)) {
          Close();
          return Status(StatusCode::kCancelled, "stopped");
        }
      } else if (static_cast<int64_t>(response->body.size() + size) > options.max_body_bytes) {
        Close();
        return ResourceExhausted("{}: the answer is larger than {} bytes", url.target,
                                 options.max_body_bytes);
      } else {
        response->body += got;
      }
      if (error) {
        Close();
        return TransportError(url, "reading the answer's body", error);
      }
    }
    return OkStatus();
  }

  Expected<HttpResponse> SendOnce(const HttpRequestSpec& spec, const Url& url, const Sink& sink,
                                  const OnHead& on_head) {
    for (int attempt = 0;; ++attempt) {
      const bool reused = open() && SameOrigin(origin, url);
      if (!reused) RETURN_IF_ERROR(Connect(url));
      bool retry = false;
      Expected<HttpResponse> response =
          plain != nullptr ? Exchange(*plain, spec, url, sink, on_head, &retry)
                           : Exchange(*secure, spec, url, sink, on_head, &retry);
      if (response) return response;
      Close();
      if (!(reused && retry && attempt == 0)) return response;
    }
  }
};

HttpClient::HttpClient(HttpClientOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
}

HttpClient::~HttpClient() = default;

Expected<HttpResponse> HttpClient::Send(const HttpRequestSpec& request, const Sink& sink,
                                        const OnHead& on_head) {
  HttpRequestSpec spec = request;
  ASSIGN_OR_RETURN(Url url, Url::Parse(spec.url));
  for (int redirects = 0;; ++redirects) {
    ASSIGN_OR_RETURN(HttpResponse response, impl_->SendOnce(spec, url, sink, on_head));
    const std::optional<std::string> location = response.header("Location");
    if (!IsRedirect(response.status) || !location) return response;
    if (redirects >= impl_->options.max_redirects) {
      return Unexpected(Unavailable("{}: more than {} redirects", request.url, redirects));
    }
    ASSIGN_OR_RETURN(Url next, url.Resolve(*location));
    if (url.scheme == "https" && next.scheme == "http") {
      return Unexpected(Unavailable("{}: refused to be redirected from https to http", request.url));
    }
    if (next.host != url.host) {
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

Expected<HttpResponse> HttpClient::Head(const std::string& url, HttpHeaders headers) {
  return Send({"HEAD", url, std::move(headers), ""});
}

Expected<HttpResponse> HttpClient::PostJson(const std::string& url, std::string body,
                                            HttpHeaders headers) {
  headers.emplace_back("Content-Type", "application/json");
  return Send({"POST", url, std::move(headers), std::move(body)});
}

Status HttpClient::Download(const std::string& url, const std::string& path, HttpHeaders headers,
                            const Progress& progress) {
  std::error_code no_file;
  int64_t have = 0;
  if (const auto size = std::filesystem::file_size(path, no_file); !no_file) {
    have = static_cast<int64_t>(size);
  }
  if (have > 0) headers.emplace_back("Range", fmt::format("bytes={}-", have));
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "ab"),
                                                             std::fclose);
  if (file == nullptr) return FailedPrecondition("{}: cannot be opened for writing", path);
  int64_t done = have;
  int64_t total = -1;
  bool disk_full = false;
  const OnHead on_head = [&](const HttpResponse& head) {
    if (head.status / 100 != 2) return true;
    if (head.status == 200 && done > 0) {
      // The whole file comes again: what was there is dropped.
      std::fflush(file.get());
      std::error_code error;
      std::filesystem::resize_file(path, 0, error);
      done = 0;
    }
    if (const auto length = head.header("Content-Length")) {
      total = done + std::strtoll(length->c_str(), nullptr, 10);
    }
    return !progress || progress(done, total);
  };
  const Sink sink = [&](std::string_view piece) {
    disk_full = std::fwrite(piece.data(), 1, piece.size(), file.get()) != piece.size();
    if (disk_full) return false;
    done += static_cast<int64_t>(piece.size());
    return !progress || progress(done, total);
  };
  Expected<HttpResponse> response = Send({"GET", url, std::move(headers), ""}, sink, on_head);
  if (disk_full || std::fflush(file.get()) != 0) {
    return ResourceExhausted("{}: cannot be written; is the disk full?", path);
  }
  if (!response) return response.error();
  if (response->status == 416) {
    // "bytes */N": nothing is left to get, if N is what we have.
    const std::string range = response->header("Content-Range").value_or("");
    const size_t slash = range.rfind('/');
    if (slash != std::string::npos && range.substr(slash + 1) == std::to_string(have)) {
      return OkStatus();
    }
    return Unavailable("{}: {} holds {} bytes, more than the server has ({}); remove the file", url,
                       path, have, range);
  }
  if (response->status != 200 && response->status != 206) {
    return Status(response->status == 404 ? StatusCode::kNotFound : StatusCode::kUnavailable,
                  fmt::format("{}: the server answered {}", url, response->status));
  }
  if (total >= 0 && done != total) {
    return Unavailable("{}: found {} bytes, expected {}; run it again to go on", url, done, total);
  }
  return OkStatus();
}

}  // namespace tiercel::server
