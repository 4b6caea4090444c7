#include "server/http_client.h"

#include <algorithm>
#include <array>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

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

}  // namespace tiercel::server
