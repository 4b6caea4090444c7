#include "engine/stream_state.h"

#include <algorithm>
#include <chrono>

namespace tiercel::engine {

StreamState::StreamState(int num_samples, std::function<void()> on_news)
    : place_(static_cast<size_t>(num_samples), -1),
      ended_(static_cast<size_t>(num_samples), false), num_open_(num_samples),
      on_news_(std::move(on_news)) {}

StreamEvent* StreamState::EventOf(int index) {
  int32_t& place = place_[static_cast<size_t>(index)];
  if (place < 0) {
    place = static_cast<int32_t>(pending_.size());
    pending_.emplace_back();
    pending_.back().index = index;
  }
  return &pending_[static_cast<size_t>(place)];
}

bool StreamState::Push(int index, OutputToken token, FinishReason finish,
                       std::optional<int32_t> stop_token) {
  std::lock_guard lock(mutex_);
  if (ended_[static_cast<size_t>(index)]) return false;
  const bool was_empty = pending_.empty();
  StreamEvent* const event = EventOf(index);
  event->tokens.push_back(std::move(token));
  event->finish = finish;
  event->stop_token = stop_token;
  if (was_empty) news_.notify_all();
  return was_empty;
}

bool StreamState::PushEnd(int index, FinishReason finish, Status error) {
  std::lock_guard lock(mutex_);
  if (ended_[static_cast<size_t>(index)]) return false;
  const bool was_empty = pending_.empty();
  StreamEvent* const event = EventOf(index);
  event->finish = finish;
  event->error = std::move(error);
  if (was_empty) news_.notify_all();
  return was_empty;
}

void StreamState::SetPromptInfo(PromptInfo info) {
  std::lock_guard lock(mutex_);
  prompt_info_ = std::move(info);
}

void StreamState::Notify() {
  std::lock_guard lock(callback_mutex_);
  if (on_news_) on_news_();
}

bool StreamState::Poll(std::vector<StreamEvent>* events) {
  std::lock_guard lock(mutex_);
  events->clear();
  std::swap(*events, pending_);
  // What the sample's reader has stopped is no news to it.
  std::erase_if(*events, [this](const StreamEvent& e) {
    return ended_[static_cast<size_t>(e.index)];
  });
  std::fill(place_.begin(), place_.end(), -1);
  for (const StreamEvent& event : *events) {
    if (event.finish == FinishReason::kNone) continue;
    ended_[static_cast<size_t>(event.index)] = true;
    --num_open_;
  }
  return !events->empty();
}

bool StreamState::Wait(double seconds) {
  std::unique_lock lock(mutex_);
  return news_.wait_for(lock, std::chrono::duration<double>(seconds),
                        [this] { return !pending_.empty(); });
}

bool StreamState::MarkStopped(int index) {
  std::lock_guard lock(mutex_);
  if (index < 0 || index >= static_cast<int>(ended_.size())) return false;
  if (ended_[static_cast<size_t>(index)]) return false;
  ended_[static_cast<size_t>(index)] = true;
  --num_open_;
  return true;
}

bool StreamState::finished() const {
  std::lock_guard lock(mutex_);
  return num_open_ == 0;
}

std::optional<PromptInfo> StreamState::TakePromptInfo() {
  std::lock_guard lock(mutex_);
  return std::exchange(prompt_info_, std::nullopt);
}

void StreamState::Close() {
  std::lock_guard lock(callback_mutex_);
  on_news_ = nullptr;
}

}  // namespace tiercel::engine
