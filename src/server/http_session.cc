#include "server/http_session.h"

#include <new>

#include "base/log.h"

namespace tiercel::server {

namespace {

// What a client may still send when all is said, so that it can take the answer: a connection
// that is closed with unread bytes is reset, and the answer may be lost with it.
constexpr double kLingerSeconds = 2;
constexpr size_t kMaxLingerBytes = size_t{1} << 20;
// The body of a request that was refused on its head: read and forgotten up to here, so that the
// connection can go on.
constexpr int64_t kMaxForgottenBody = 64 << 10;
// Of the requests that come while one is answered; more waits in the peer.
constexpr size_t kMaxPipelined = size_t{64} << 10;
// A longer answer's buffer is not kept for the next one.
constexpr size_t kMaxKeptBuffer = size_t{16} << 10;

SteadyTime Now() { return std::chrono::steady_clock::now(); }

}  // namespace

double SecondsSince(SteadyTime start) {
  return std::chrono::duration<double>(Now() - start).count();
}

SteadyTime After(double seconds) {
  return Now() + std::chrono::duration_cast<SteadyTime::duration>(
                     std::chrono::duration<double>(seconds));
}

WaitingList::Entry WaitingList::Add(std::weak_ptr<SessionBase> session) {
  const std::lock_guard lock(mutex_);
  return staying_.insert(staying_.end(), {std::move(session)});
}

void WaitingList::Remove(Entry entry) {
  const std::lock_guard lock(mutex_);
  (entry->leaving ? leaving_ : staying_).erase(entry);
}

void WaitingList::EvictOldest(size_t spared) {
  std::shared_ptr<SessionBase> oldest;
  {
    const std::lock_guard lock(mutex_);
    if (staying_.size() <= spared) return;
    staying_.front().leaving = true;
    oldest = staying_.front().session.lock();
    leaving_.splice(leaving_.end(), staying_, staying_.begin());
  }
  if (oldest != nullptr) oldest->Evict();
}

SessionBase::SessionBase(SessionShared* shared, IoThread* thread, std::string peer)
    : shared_(shared), thread_(thread), peer_(std::move(peer)) {
  thread_->sessions.insert(this);
  shared_->num_connections.fetch_add(1);
}

SessionBase::~SessionBase() {
  SetPhase(Phase::kLinger);
  if (!closed_) shared_->num_connections.fetch_sub(1);
  thread_->sessions.erase(this);
}

void SessionBase::SetPhase(Phase phase) {
  phase_ = phase;
  const bool waits = phase == Phase::kHandshake || phase == Phase::kIdle || phase == Phase::kHead;
  if (waits == waiting_.has_value()) return;
  if (waits) {
    waiting_ = shared_->waiting.Add(weak_from_this());
  } else {
    shared_->waiting.Remove(*waiting_);
    waiting_.reset();
  }
}

void SessionBase::Evict() {
  asio::post(thread_->context, [self = shared_from_this()] {
    if (self->waiting_) self->Close();
  });
}

void SessionBase::Tick(SteadyTime now) {
  if (now >= read_deadline_ || now >= write_deadline_) {
    Close();
    return;
  }
  if (streaming_ && pulse_.interval_s > 0 && !answer_complete_ && in_flight_.empty() &&
      SecondsSince(last_write_) >= pulse_.interval_s) {
    AppendChunk(pulse_.text);
    Flush();
  }
}

// A request that has begun to come is still answered.
void SessionBase::CloseIfIdle() {
  if (phase_ == Phase::kHandshake || (phase_ == Phase::kIdle && buffer_.empty())) Close();
}

void SessionBase::Close() {
  if (closed_) return;
  closed_ = true;
  read_deadline_ = write_deadline_ = SteadyTime::max();
  CloseSocket(/*forget_unsent=*/!in_flight_.empty());
  SetPhase(Phase::kLinger);
  shared_->num_connections.fetch_sub(1);
  if (!exchange_) return;
  // This may be the last that holds the session.
  const std::shared_ptr<SessionBase> self = shared_from_this();
  // A client may go as soon as it has read what it wanted, before the last of the answer's frame.
  const int status = answer_complete_ ? status_ : kClientClosedRequest;
  EndExchange(status)->NotifyClosed();
}

void SessionBase::CloseWithoutMemory() {
  LOG_ERROR("no memory for the request of {}: its connection is closed", peer_);
  Close();
}

void SessionBase::BeginExchange(HttpRequest request) {
  SetPhase(Phase::kAnswer);
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
  SetPhase(Phase::kIdle);
  read_deadline_ = After(shared_->options.keep_alive_timeout_s);
  Advance();
}

void SessionBase::Advance() {
  if (closed_) return;
  const size_t used = Consume(buffer_);
  buffer_.erase(0, used);
  if (buffer_.empty()) buffer_ = std::string();
  ReadOn();
}

void SessionBase::ReadOn() {
  if (closed_ || read_in_flight_) return;
  if (phase_ == Phase::kAnswer && buffer_.size() >= kMaxPipelined) return;
  read_in_flight_ = true;
  StartRead();
}

void SessionBase::OnRead(error_code error, std::string_view piece) {
  read_in_flight_ = false;
  if (closed_) return;
  if (error) {
    Close();
    return;
  }
  try {
    TakePiece(piece);
  } catch (const std::bad_alloc&) {
    CloseWithoutMemory();
  }
}

void SessionBase::TakePiece(std::string_view piece) {
  if (phase_ == Phase::kLinger) {
    lingered_bytes_ += piece.size();
    lingered_bytes_ > kMaxLingerBytes ? Close() : ReadOn();
    return;
  }
  // Straight from where it was read, if nothing waits before it.
  if (buffer_.empty()) piece.remove_prefix(Consume(piece));
  if (phase_ != Phase::kLinger) buffer_ += piece;
  Advance();
}

// Returns how much of `data` the session had use for.
size_t SessionBase::Consume(std::string_view data) {
  size_t used = 0;
  while (!closed_ && (phase_ == Phase::kIdle || phase_ == Phase::kHead || phase_ == Phase::kBody)) {
    if (parser_ == nullptr) {
      if (used == data.size()) {
        if (shared_->draining.load()) Close();
        return used;
      }
      const ServerOptions& options = shared_->options;
      parser_ = std::make_unique<RequestParser>(
          RequestParser::Limits{options.max_header_bytes, options.max_header_count,
                                options.max_request_body_bytes},
          shared_->budget);
    }
    const bool reads_body = phase_ == Phase::kBody;
    used += parser_->Feed(data.substr(used));
    switch (parser_->state()) {
      case RequestParser::State::kStart:
        if (shared_->draining.load()) Close();
        return used;
      case RequestParser::State::kHead:
        if (phase_ == Phase::kIdle) {
          SetPhase(Phase::kHead);
          read_deadline_ = After(shared_->options.header_timeout_s);
        }
        return used;
      case RequestParser::State::kBody:
        if (reads_body) return used;
        OnHead();
        break;
      case RequestParser::State::kDone:
        if (!reads_body) OnHead();
        if (phase_ == Phase::kBody) OnBody();
        break;
      case RequestParser::State::kBad:
        RefuseRequest(parser_->error().status, parser_->error().message);
        break;
    }
  }
  return used;
}

void SessionBase::OnHead() {
  SetPhase(Phase::kBody);
  read_deadline_ = After(shared_->options.body_timeout_s);
  request_start_ = Now();
  HttpRequest& request = parser_->request();
  request.peer = peer_;
  is_head_ = request.method == "HEAD";
  http_1_0_ = parser_->is_http_1_0();
  // The places beyond the last one are for probes and for those that are told so.
  const bool is_crowded = shared_->num_connections.load() > shared_->max_connections;
  keep_alive_ = parser_->keep_alive() && !is_crowded && !shared_->draining.load();
  if (std::optional<HttpReply> reply = shared_->hooks.refuse(request)) {
    AnswerOnHead(std::move(*reply));
    return;
  }
  if (parser_->state() == RequestParser::State::kDone) return;
  if (is_crowded) return RefuseRequest(503, "All connections are in use; try again in a moment.");
  if (parser_->body_left() > shared_->options.max_request_body_bytes) {
    return RefuseRequest(413, "The request's body is too large.");
  }
  if (parser_->expects_continue()) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    Flush();
  }
}

void SessionBase::OnBody() {
  if (parser_->discards_body()) {
    parser_.reset();
    SetPhase(Phase::kIdle);
    read_deadline_ = After(shared_->options.keep_alive_timeout_s);
    return;
  }
  HttpRequest request = std::move(parser_->request());
  parser_.reset();
  BeginExchange(std::move(request));
  // A copy: the answer may be complete, and exchange_ gone, when the handler returns.
  const std::shared_ptr<SessionExchange> exchange = exchange_;
  shared_->hooks.handle(exchange);
  exchange->ForgetHead();
}

// The answer does not wait for the body, and no memory does.
void SessionBase::AnswerOnHead(HttpReply reply) {
  HttpRequest request = std::move(parser_->request());
  const std::optional<int64_t> left = parser_->body_left();
  // One that awaits "100 Continue" may send the body or not.
  if (!left || *left > kMaxForgottenBody || (*left > 0 && parser_->expects_continue())) {
    keep_alive_ = false;
  }
  parser_->DiscardBody();
  if (left == 0 || !keep_alive_) parser_.reset();
  BeginExchange(std::move(request));
  Respond(std::move(reply));
}

// The connection ends: where the next request begins is not known, or is far.
void SessionBase::RefuseRequest(int status, std::string_view message) {
  HttpRequest request;
  if (parser_->has_head()) {
    request = std::move(parser_->request());
    request.body.Clear();
  } else {
    request_start_ = Now();
    is_head_ = http_1_0_ = false;
    request.method.assign(1, '-');
    request.peer = peer_;
  }
  parser_.reset();
  keep_alive_ = false;
  BeginExchange(std::move(request));
  HttpReply reply{status, "application/json", shared_->hooks.error_body(status, message), {}};
  if (status == 503) reply.headers.emplace_back("Retry-After", "1");
  Respond(std::move(reply));
}

// ---- answering

void SessionBase::AppendHead(const HttpReply& reply, bool chunked) {
  status_ = reply.status;
  out_ += fmt::format("HTTP/1.1 {} {}\r\nServer: tiercel\r\n", reply.status,
                      ReasonPhrase(reply.status));
  if (!reply.content_type.empty()) out_ += fmt::format("Content-Type: {}\r\n", reply.content_type);
  if (chunked) {
    out_ += "Transfer-Encoding: chunked\r\n";
  } else if (!streaming_ && reply.status != 204 && reply.status != 304) {
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

void SessionBase::BeginStream(HttpReply reply, Pulse pulse) {
  streaming_ = true;
  pulse_ = pulse;
  if (pulse_.interval_s == 0) pulse_.interval_s = shared_->options.sse_keep_alive_interval_s;
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
  write_start_ = Now();
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
  try {
    WriteOn();
  } catch (const std::bad_alloc&) {
    CloseWithoutMemory();
  }
}

void SessionBase::WriteOn() {
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
    if (parser_ != nullptr) {
      SetPhase(Phase::kBody);
      read_deadline_ = After(kLingerSeconds);
    } else {
      SetPhase(Phase::kIdle);
      read_deadline_ = After(shared_->options.keep_alive_timeout_s);
    }
    // Not from within the handler that has just answered: a flood of pipelined requests would
    // nest their handlers. The next request may have come, and begun, before this runs.
    asio::post(thread_->context, [self = shared_from_this()] { self->Advance(); });
    return;
  }
  SetPhase(Phase::kLinger);
  read_deadline_ = After(kLingerSeconds);
  parser_.reset();
  buffer_ = std::string();
  StartShutdown();
  ReadOn();
}

}  // namespace tiercel::server
