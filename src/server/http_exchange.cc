// SessionExchange: a handler's handle on the request of a session.
#include <chrono>
#include <new>

#include "server/http_session.h"

namespace tiercel::server {

namespace {

// Of a request's target, once it has been routed: for the log.
constexpr size_t kKeptTarget = 512;

}  // namespace

std::shared_ptr<SessionBase> SessionExchange::Session() const {
  std::shared_ptr<SessionBase> session = session_.lock();
  return session != nullptr && session->exchange_.get() == this && !session->closed_ ? session
                                                                                     : nullptr;
}

void SessionExchange::Post(std::function<void()> task) {
  asio::post(thread_->context, [session = session_, exchange = this, task = std::move(task)] {
    try {
      task();
    } catch (const std::bad_alloc&) {
      const auto alive = session.lock();
      if (alive != nullptr && alive->exchange_.get() == exchange) alive->CloseWithoutMemory();
    }
  });
}

void SessionExchange::Respond(HttpReply reply) {
  if (const auto session = Session()) session->Respond(std::move(reply));
}

void SessionExchange::BeginStream(HttpReply reply, Pulse pulse) {
  if (const auto session = Session()) session->BeginStream(std::move(reply), pulse);
}

void SessionExchange::Write(std::string_view piece) {
  if (const auto session = Session()) session->WritePiece(piece);
}

void SessionExchange::EndStream() {
  if (const auto session = Session()) session->EndStream();
}

void SessionExchange::Abort() {
  if (const auto session = Session()) session->Close();
}

bool SessionExchange::writable() const {
  const auto session = Session();
  return session != nullptr && session->in_flight_.empty() && session->out_.empty();
}

double SessionExchange::write_seconds() const {
  const auto session = Session();
  return session != nullptr && !session->in_flight_.empty() ? SecondsSince(session->write_start_)
                                                            : 0;
}

void SessionExchange::SetCallbacks(std::function<void()> on_writable,
                                   std::function<void()> on_closed) {
  on_writable_ = std::move(on_writable);
  on_closed_ = std::move(on_closed);
}

void SessionExchange::ForgetHead() {
  request_.headers = {};
  if (request_.target.size() <= kKeptTarget) return;
  request_.target.resize(kKeptTarget);
  request_.target.shrink_to_fit();
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
