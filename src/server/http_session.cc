#include "server/http_session.h"

#include "base/log.h"

namespace tiercel::server {

namespace {

constexpr double kLingerSeconds = 2;
// Of the requests that come while one is answered; more waits in the peer.
constexpr size_t kMaxPipelined = size_t{64} << 10;
// A longer answer's buffer is not kept for the next one.
constexpr size_t kMaxKeptBuffer = size_t{256} << 10;

SteadyTime Now() { return std::chrono::steady_clock::now(); }

double SecondsSince(SteadyTime start) {
  return std::chrono::duration<double>(Now() - start).count();
}

}  // namespace

SteadyTime After(double seconds) {
  return Now() + std::chrono::duration_cast<SteadyTime::duration>(
                     std::chrono::duration<double>(seconds));
}

SessionBase::SessionBase(SessionShared* shared, IoThread* thread, std::string peer)
    : shared_(shared), thread_(thread), peer_(std::move(peer)) {
  shared_->num_connections.fetch_add(1);
  thread_->sessions.insert(this);
}

SessionBase::~SessionBase() {
  shared_->num_connections.fetch_sub(1);
  thread_->sessions.erase(this);
}

void SessionBase::Tick(SteadyTime now) {
  if (now >= read_deadline_ || now >= write_deadline_) {
    Close();
    return;
  }
  const double interval = shared_->options.sse_keep_alive_interval_s;
  if (interval > 0 && streaming_ && !answer_complete_ && in_flight_.empty() &&
      SecondsSince(last_write_) >= interval) {
    AppendChunk(": keep-alive\n\n");
    Flush();
  }
}

// A request that has begun to come is still answered.
void SessionBase::CloseIfIdle() {
  if (phase_ == Phase::kHandshake || (phase_ == Phase::kIdle && buffer_.size() == 0)) Close();
}

void SessionBase::Close() {
  if (closed_) return;
  closed_ = true;
  read_deadline_ = write_deadline_ = SteadyTime::max();
  CloseSocket();
  if (!exchange_) return;
  constexpr int kClientClosedRequest = 499;
  // This may be the last that holds the session.
  const std::shared_ptr<SessionBase> self = shared_from_this();
  EndExchange(kClientClosedRequest)->NotifyClosed();
}

void SessionBase::BeginExchange(HttpRequest request) {
  phase_ = Phase::kAnswer;
  read_deadline_ = SteadyTime::max();
  answer_bytes_ = 0;
  self_while_answering_ = shared_from_this();
  exchange_ = std::make_shared<SessionExchange>(weak_from_this(), thread_, std::move(request));
  shared_->num_active.fetch_add(1);
}

std::shared_ptr<SessionExchange> SessionBase::EndExchange(int status) {
  std::shared_ptr<SessionExchange> exchange = std::move(exchange_);
  exchange_ = nullptr;
  self_while_answering_.reset();
  streaming_ = answer_complete_ = false;
  shared_->num_active.fetch_sub(1);
  shared_->hooks.finished(exchange->request(),
                          {status, SecondsSince(request_start_), answer_bytes_});
  return exchange;
}

// ---- reading

void SessionBase::WaitForRequest() {
  phase_ = Phase::kIdle;
  read_deadline_ = After(shared_->options.keep_alive_timeout_s);
  Advance();
}

void SessionBase::Advance() {
  if (closed_) return;
  if (phase_ == Phase::kIdle) BeginRequest();
  if (phase_ == Phase::kHead) ParseHead();
  if (phase_ == Phase::kBody) ParseBody();
  ReadOn();
}

void SessionBase::ReadOn() {
  if (closed_ || read_in_flight_) return;
  if (phase_ == Phase::kAnswer && buffer_.size() >= kMaxPipelined) return;
  read_in_flight_ = true;
  StartRead();
}

void SessionBase::OnRead(error_code error, size_t size) {
  read_in_flight_ = false;
  if (closed_) return;
  if (error) {
    Close();
    return;
  }
  if (phase_ != Phase::kLinger) {
    asio::buffer_copy(buffer_.prepare(size), asio::buffer(piece_, size));
    buffer_.commit(size);
  }
  Advance();
}

void SessionBase::BeginRequest() {
  // Some clients end a body with an empty line that does not belong to it.
  const auto is_line_end = [](char c) { return c == '\r' || c == '\n'; };
  while (buffer_.size() > 0 && is_line_end(*static_cast<const char*>(buffer_.data().data()))) {
    buffer_.consume(1);
  }
  if (buffer_.size() == 0) {
    if (shared_->draining.load()) Close();
    return;
  }
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_->options.max_header_bytes));
  parser_->body_limit(static_cast<uint64_t>(shared_->options.max_request_body_bytes));
  phase_ = Phase::kHead;
  read_deadline_ = After(shared_->options.header_timeout_s);
}

void SessionBase::ParseHead() {
  error_code error;
  buffer_.consume(parser_->put(buffer_.data(), error));
  if (error == http::error::need_more) return;
  request_start_ = Now();
  if (error == http::error::header_limit) {
    return RefuseRequest(431, "The request's headers are too large.");
  }
  if (error == http::error::body_limit) {
    return RefuseRequest(413, "The request's body is too large.");
  }
  if (error) return RefuseRequest(400, "Invalid HTTP request received.");
  if (parser_->is_header_done()) OnHead();
}

void SessionBase::OnHead() {
  const auto& message = parser_->get();
  const auto count = std::distance(message.begin(), message.end());
  if (count > shared_->options.max_header_count) {
    return RefuseRequest(431, "The request has too many headers.");
  }
  const auto length = parser_->content_length();
  if (length && *length > static_cast<uint64_t>(shared_->options.max_request_body_bytes)) {
    return RefuseRequest(413, "The request's body is too large.");
  }
  phase_ = Phase::kBody;
  read_deadline_ = After(shared_->options.body_timeout_s);
  const auto expect = message[http::field::expect];
  if (EqualsNoCase({expect.data(), expect.size()}, "100-continue") && message.version() >= 11) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    Flush();
  }
}

void SessionBase::ParseBody() {
  while (!parser_->is_done()) {
    if (buffer_.size() == 0) return;
    error_code error;
    buffer_.consume(parser_->put(buffer_.data(), error));
    if (error == http::error::need_more) return;
    if (error == http::error::body_limit) {
      return RefuseRequest(413, "The request's body is too large.");
    }
    if (error) return RefuseRequest(400, "Invalid HTTP request received.");
  }
  Dispatch();
}

void SessionBase::Dispatch() {
  auto message = parser_->release();
  HttpRequest request;
  const auto text = [](auto view) { return std::string(view.data(), view.size()); };
  request.method = text(message.method_string());
  request.target = text(message.target());
  request.path = PathOf(request.target);
  request.peer = peer_;
  for (const auto& field : message) {
    request.headers.emplace_back(text(field.name_string()), text(field.value()));
  }
  request.body = std::move(message.body());
  keep_alive_ = message.keep_alive() && !shared_->draining.load();
  is_head_ = message.method() == http::verb::head;
  http_1_0_ = message.version() < 11;
  parser_.reset();
  BeginExchange(std::move(request));
  // A copy: the answer may be complete, and exchange_ gone, when the handler returns.
  const std::shared_ptr<SessionExchange> exchange = exchange_;
  shared_->hooks.handle(exchange);
}

// Bad HTTP ends the connection: where the next request begins is not known.
void SessionBase::RefuseRequest(int status, std::string_view message) {
  parser_.reset();
  keep_alive_ = is_head_ = http_1_0_ = false;
  HttpRequest request;
  request.peer = peer_;
  request.method = "-";
  BeginExchange(std::move(request));
  Respond({status, "application/json", shared_->hooks.error_body(status, message), {}});
}

// ---- answering

void SessionBase::AppendHead(const HttpReply& reply, bool chunked) {
  status_ = reply.status;
  out_ += fmt::format("HTTP/1.1 {} {}\r\nServer: tiercel\r\n", reply.status,
                      ReasonPhrase(reply.status));
  if (!reply.content_type.empty()) out_ += fmt::format("Content-Type: {}\r\n", reply.content_type);
  if (chunked) {
    out_ += "Transfer-Encoding: chunked\r\n";
  } else if (!streaming_ && reply.status != 204) {
    out_ += fmt::format("Content-Length: {}\r\n", reply.body.size());
  }
  for (const auto& [name, value] : reply.headers) out_ += fmt::format("{}: {}\r\n", name, value);
  if (!keep_alive_) {
    out_ += "Connection: close\r\n";
  } else if (http_1_0_) {
    out_ += "Connection: keep-alive\r\n";
  }
  out_ += "\r\n";
}

void SessionBase::Respond(HttpReply reply) {
  AppendHead(reply, false);
  if (!is_head_) {
    out_ += reply.body;
    answer_bytes_ += static_cast<int64_t>(reply.body.size());
  }
  answer_complete_ = true;
  Flush();
}

void SessionBase::BeginStream(HttpReply reply) {
  streaming_ = true;
  // HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
  if (http_1_0_) keep_alive_ = false;
  AppendHead(reply, !http_1_0_);
  last_write_ = Now();
  if (is_head_) answer_complete_ = true;  // nothing follows the head; what is written is ignored
  if (!reply.body.empty()) AppendChunk(reply.body);
  Flush();
}

void SessionBase::AppendChunk(std::string_view piece) {
  if (is_head_ || piece.empty()) return;
  answer_bytes_ += static_cast<int64_t>(piece.size());
  if (http_1_0_) {
    out_ += piece;
    return;
  }
  fmt::format_to(std::back_inserter(out_), "{:x}\r\n", piece.size());
  out_ += piece;
  out_ += "\r\n";
}

void SessionBase::WritePiece(std::string_view piece) {
  AppendChunk(piece);
  Flush();
}

void SessionBase::EndStream() {
  if (!is_head_ && !http_1_0_) out_ += "0\r\n\r\n";
  answer_complete_ = true;
  Flush();
}

void SessionBase::Flush() {
  if (closed_ || !in_flight_.empty()) return;
  if (out_.empty()) {
    if (answer_complete_) FinishAnswer();
    return;
  }
  in_flight_.swap(out_);
  write_deadline_ = After(shared_->options.write_stall_timeout_s);
  StartWrite();
}

void SessionBase::OnWritten(error_code error) {
  in_flight_.clear();
  write_deadline_ = SteadyTime::max();
  if (closed_) return;
  if (error) {
    Close();
    return;
  }
  last_write_ = Now();
  if (!out_.empty() || answer_complete_) {
    Flush();
    return;
  }
  if (!exchange_) return;  // "100 Continue" is out, and the body is still being read
  const std::shared_ptr<SessionExchange> exchange = exchange_;
  if (exchange->on_writable_) {
    // A copy: the callback may replace itself by ending the answer.
    const std::function<void()> on_writable = exchange->on_writable_;
    on_writable();
  }
}

void SessionBase::FinishAnswer() {
  // The caller's handler holds the session no longer than the request does.
  const std::shared_ptr<SessionBase> self = shared_from_this();
  EndExchange(status_)->Forget();
  for (std::string* buffer : {&out_, &in_flight_}) {
    if (buffer->capacity() > kMaxKeptBuffer) *buffer = std::string();
  }
  if (keep_alive_ && !shared_->draining.load()) {
    phase_ = Phase::kIdle;
    read_deadline_ = After(shared_->options.keep_alive_timeout_s);
    // Not from within the handler that has just answered: a flood of pipelined requests would
    // nest their handlers. The next request may have come, and begun, before this runs.
    asio::post(thread_->context, [self = shared_from_this()] { self->Advance(); });
    return;
  }
  phase_ = Phase::kLinger;
  read_deadline_ = After(kLingerSeconds);
  StartShutdown();
  buffer_.clear();
  ReadOn();
}

// ---- the handler's handle

std::shared_ptr<SessionBase> SessionExchange::Session() const {
  std::shared_ptr<SessionBase> session = session_.lock();
  return session != nullptr && session->exchange_.get() == this && !session->closed_ ? session
                                                                                     : nullptr;
}

void SessionExchange::Respond(HttpReply reply) {
  if (const auto session = Session()) session->Respond(std::move(reply));
}

void SessionExchange::BeginStream(HttpReply reply) {
  if (const auto session = Session()) session->BeginStream(std::move(reply));
}

void SessionExchange::Write(std::string_view piece) {
  if (const auto session = Session()) session->WritePiece(piece);
}

void SessionExchange::EndStream() {
  if (const auto session = Session()) session->EndStream();
}

bool SessionExchange::writable() const {
  const auto session = Session();
  return session != nullptr && session->in_flight_.empty() && session->out_.empty();
}

void SessionExchange::SetCallbacks(std::function<void()> on_writable,
                                   std::function<void()> on_closed) {
  on_writable_ = std::move(on_writable);
  on_closed_ = std::move(on_closed);
}

void SessionExchange::Forget() {
  on_writable_ = nullptr;
  on_closed_ = nullptr;
}

void SessionExchange::NotifyClosed() {
  const std::function<void()> on_closed = std::move(on_closed_);
  Forget();
  if (on_closed) on_closed();
}

}  // namespace tiercel::server
