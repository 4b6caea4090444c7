#include "engine/inbox.h"

#include <chrono>
#include <cmath>
#include <utility>

namespace tiercel::engine {

Status Inbox::CheckLimits(const ActiveRequest& request) {
  const int64_t tokens = static_cast<int64_t>(request.state.prompt.size());
  const int64_t entries = request.stream->logprob_entries;
  if (limits_.queued_requests > 0 && queued_requests_ >= limits_.queued_requests) {
    ++num_rejected_.requests;
    return ResourceExhausted(
        "Too many queued requests: {} are waiting, max_num_queued_reqs is {}. Try again later.",
        queued_requests_.load(), limits_.queued_requests);
  }
  if (limits_.queued_tokens > 0 && queued_tokens_ + tokens > limits_.queued_tokens) {
    ++num_rejected_.tokens;
    return ResourceExhausted(
        "Too many queued tokens: {} are waiting and the request has {}, max_num_queued_tokens is "
        "{}. Try again later.",
        queued_tokens_.load(), tokens, limits_.queued_tokens);
  }
  if (limits_.logprob_entries > 0 && entries > 0 &&
      logprob_entries_ + entries > limits_.logprob_entries) {
    return ResourceExhausted(
        "Too many log-probabilities: the requests that run may give up to {}, this one up to {}, "
        "and the server keeps {}. Try again later.",
        logprob_entries_, entries, limits_.logprob_entries);
  }
  return OkStatus();
}

Status Inbox::Submit(std::unique_ptr<ActiveRequest> request) {
  {
    std::lock_guard lock(mutex_);
    if (closed_ || draining_) return Unavailable("The engine is shutting down.");
    if (sleeping_) return Unavailable("The engine is asleep (see /wake_up).");
    RETURN_IF_ERROR(CheckLimits(*request));
    LetIn(std::move(request));
  }
  changed_.notify_all();
  return OkStatus();
}

Status Inbox::SubmitOfSearch(std::unique_ptr<ActiveRequest> request, const Search& search) {
  {
    std::lock_guard lock(mutex_);
    if (closed_ || search.aborts_ != num_aborts_) return Unavailable("The engine is shutting down.");
    LetIn(std::move(request));
  }
  changed_.notify_all();
  return OkStatus();
}

void Inbox::LetIn(std::unique_ptr<ActiveRequest> request) {
  ActiveRequest& r = *request;
  requests_.push_back(std::move(request));
  r.stream->let_in = true;
  ++queued_requests_;
  queued_tokens_ += static_cast<int64_t>(r.state.prompt.size());
  logprob_entries_ += r.stream->logprob_entries;
  num_submitted_sequences_.fetch_add(static_cast<int64_t>(r.state.sequences.size()), std::memory_order_release);
}

void Inbox::Search::Begin() {
  std::lock_guard lock(inbox_->mutex_);
  begun_ = true;
  aborts_ = inbox_->num_aborts_;
  ++inbox_->num_searches_;
}

Inbox::Search::~Search() {
  if (!begun_) return;
  {
    std::lock_guard lock(inbox_->mutex_);
    if (aborts_ != inbox_->num_aborts_) return;  // it counts no more
    --inbox_->num_searches_;
  }
  inbox_->Wake();
}

void Inbox::AddWish(const std::shared_ptr<StreamState>& stream) {
  if (closed_ || !stream->let_in || stream->wish.node.empty()) return;
  stream->wish.node.front() = stream;
  wishes_.splice(wishes_.end(), stream->wish.node);
}

void Inbox::Leave(const std::shared_ptr<StreamState>& stream, bool finished) {
  {
    std::lock_guard lock(mutex_);
    if (!finished) {
      stream->wish.cancel = true;
      AddWish(stream);
    }
    if (std::exchange(stream->let_in, false)) logprob_entries_ -= stream->logprob_entries;
  }
  changed_.notify_all();
}

void Inbox::StopSample(const std::shared_ptr<StreamState>& stream, int index) {
  {
    std::lock_guard lock(mutex_);
    stream->wish.stops.push_back(index);
    AddWish(stream);
  }
  changed_.notify_all();
}

template <typename F>
bool Inbox::Post(F&& set) {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return false;
    set(&orders_);
    has_orders_ = true;
  }
  changed_.notify_all();
  return true;
}

bool Inbox::ResetPrefixCache(std::promise<bool>* answer) {
  return Post([answer](Orders* orders) { orders->resets.push_back(answer); });
}

bool Inbox::Sleep(bool abort, std::promise<bool>* answer) {
  return Post([&](Orders* orders) {
    sleeping_ = true;
    orders->sleeps.push_back(answer);
    if (abort) AbortAll(orders);
  });
}

void Inbox::AbortAll(Orders* orders) {
  orders->abort_all = true;
  ++num_aborts_;
  num_searches_ = 0;
}

void Inbox::WakeUp() {
  Post([this](Orders* orders) {
    sleeping_ = false;
    orders->wake = true;
    orders->woken.insert(orders->woken.end(), orders->sleeps.begin(), orders->sleeps.end());
    orders->sleeps.clear();
  });
}

bool Inbox::sleeping() const {
  std::lock_guard lock(mutex_);
  return sleeping_;
}

void Inbox::AbortAll() {
  Post([this](Orders* orders) { AbortAll(orders); });
}

bool Inbox::Drain() {
  return Post([](Orders* orders) { orders->drain = true; });
}

void Inbox::ShutDown() {
  Post([](Orders* orders) { orders->shut_down = true; });
}

void Inbox::StopSubmissions() {
  std::lock_guard lock(mutex_);
  draining_ = true;
}

void Inbox::Wait(double seconds) {
  std::unique_lock lock(mutex_);
  const auto ready = [this] {
    return woken_ || has_orders_ || !requests_.empty() || !wishes_.empty();
  };
  if (std::isinf(seconds)) {
    changed_.wait(lock, ready);
  } else if (seconds > 0) {
    changed_.wait_for(lock, std::chrono::duration<double>(seconds), ready);
  }
  woken_ = false;
}

void Inbox::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

Inbox::Orders Inbox::TakeOrders() {
  std::lock_guard lock(mutex_);
  has_orders_ = false;
  return std::exchange(orders_, {});
}

std::unique_ptr<ActiveRequest> Inbox::NextRequest() {
  std::lock_guard lock(mutex_);
  if (requests_.empty()) return nullptr;
  std::unique_ptr<ActiveRequest> request = std::move(requests_.front());
  requests_.pop_front();
  return request;
}

std::shared_ptr<StreamState> Inbox::NextWish(int* index) {
  std::lock_guard lock(mutex_);
  if (wishes_.empty() || !requests_.empty()) return nullptr;
  StreamState::Wish& wish = wishes_.front()->wish;
  if (wish.cancel) {
    wish.stops.clear();
    *index = kAllSamples;
  } else {
    *index = wish.stops.back();
    wish.stops.pop_back();
    if (!wish.stops.empty()) return wishes_.front();
  }
  std::shared_ptr<StreamState> stream = std::move(wishes_.front());
  wish.node.splice(wish.node.begin(), wishes_, wishes_.begin());
  return stream;
}

void Inbox::Unqueue(int64_t num_tokens) {
  --queued_requests_;
  queued_tokens_ -= num_tokens;
}

void Inbox::Close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
}

Inbox::Rejected Inbox::num_rejected() const {
  std::lock_guard lock(mutex_);
  return num_rejected_;
}

}  // namespace tiercel::engine
