#include "engine/inbox.h"

#include <chrono>
#include <cmath>
#include <utility>

namespace tiercel::engine {

Inbox::Inbox(int64_t max_queued_requests, int64_t max_queued_tokens)
    : max_queued_requests_(max_queued_requests), max_queued_tokens_(max_queued_tokens) {}

Status Inbox::Submit(std::unique_ptr<ActiveRequest> request) {
  const int64_t tokens = static_cast<int64_t>(request->prompt.size());
  {
    std::lock_guard lock(mutex_);
    if (closed_ || draining_) return Unavailable("The engine is shutting down.");
    if (max_queued_requests_ > 0 && queued_requests_ >= max_queued_requests_) {
      ++num_rejected_.requests;
      return ResourceExhausted(
          "Too many queued requests: {} are waiting, max_num_queued_reqs is {}. Try again later.",
          queued_requests_, max_queued_requests_);
    }
    if (max_queued_tokens_ > 0 && queued_tokens_ + tokens > max_queued_tokens_) {
      ++num_rejected_.tokens;
      return ResourceExhausted(
          "Too many queued tokens: {} are waiting and the request has {}, max_num_queued_tokens is "
          "{}. Try again later.",
          queued_tokens_, tokens, max_queued_tokens_);
    }
    ++queued_requests_;
    queued_tokens_ += tokens;
    pending_sequences_ += static_cast<int64_t>(request->sequences.size());
    Message message;
    message.kind = Message::Kind::kSubmit;
    message.request = std::move(request);
    messages_.push_back(std::move(message));
  }
  changed_.notify_all();
  return OkStatus();
}

bool Inbox::Post(Message message) {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return false;
    messages_.push_back(std::move(message));
  }
  changed_.notify_all();
  return true;
}

void Inbox::Take(double seconds, std::vector<Message>* messages) {
  messages->clear();
  std::unique_lock lock(mutex_);
  const auto ready = [this] { return woken_ || !messages_.empty(); };
  if (std::isinf(seconds)) {
    changed_.wait(lock, ready);
  } else if (seconds > 0) {
    changed_.wait_for(lock, std::chrono::duration<double>(seconds), ready);
  }
  woken_ = false;
  std::swap(*messages, messages_);
  pending_sequences_ = 0;
}

void Inbox::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

void Inbox::Unqueue(int64_t num_tokens) {
  std::lock_guard lock(mutex_);
  --queued_requests_;
  queued_tokens_ -= num_tokens;
}

void Inbox::StopSubmissions() {
  std::lock_guard lock(mutex_);
  draining_ = true;
}

void Inbox::Close(std::vector<Message>* rest) {
  std::lock_guard lock(mutex_);
  closed_ = true;
  *rest = std::exchange(messages_, {});
  pending_sequences_ = 0;
}

int64_t Inbox::num_pending_sequences() const {
  std::lock_guard lock(mutex_);
  return pending_sequences_;
}

Inbox::Rejected Inbox::num_rejected() const {
  std::lock_guard lock(mutex_);
  return num_rejected_;
}

}  // namespace tiercel::engine
