#include "engine/stream_state.h"

#include <algorithm>
#include <chrono>
#include <new>

namespace tiercel::engine {

StreamState::StreamState(int num_samples, std::function<void()> on_news)
    : news_node(1), samples_(static_cast<size_t>(num_samples)), num_open_(num_samples),
      on_news_(std::move(on_news)) {
  wish.node.resize(1);
  wish.stops.reserve(samples_.size());
  with_news_.reserve(samples_.size());
}

bool StreamState::AddNews(int index) {
  const bool had_none = with_news_.empty();
  Sample& sample = samples_[static_cast<size_t>(index)];
  if (!sample.has_news) {
    sample.has_news = true;
    with_news_.push_back(index);
  }
  if (had_none) news_.notify_all();
  return had_none;
}

bool StreamState::Push(int index, OutputToken token, FinishReason finish,
                       std::optional<int32_t> stop_token) {
  std::lock_guard lock(mutex_);
  Sample& sample = samples_[static_cast<size_t>(index)];
  if (sample.ended || sample.finish != FinishReason::kNone) return false;
  sample.tokens.push_back(std::move(token));
  sample.finish = finish;
  sample.stop_token = stop_token;
  return AddNews(index);
}

bool StreamState::PushEnd(int index, FinishReason finish, const Status& error) {
  std::lock_guard lock(mutex_);
  Sample& sample = samples_[static_cast<size_t>(index)];
  if (sample.ended || sample.finish != FinishReason::kNone) return false;
  sample.finish = finish;
  try {
    sample.error = error;
  } catch (const std::bad_alloc&) {
    sample.error = Status(error.code(), {});
  }
  return AddNews(index);
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
  // The reader's memory for tokens goes to the samples, and theirs to the reader.
  events->resize(with_news_.size());
  size_t count = 0;
  for (const int32_t index : with_news_) {
    Sample& sample = samples_[static_cast<size_t>(index)];
    sample.has_news = false;
    if (sample.ended) continue;  // what the reader has stopped is no news to it
    StreamEvent& event = (*events)[count++];
    event.index = index;
    event.tokens.clear();
    std::swap(event.tokens, sample.tokens);
    event.finish = sample.finish;
    event.stop_token = sample.stop_token;
    event.error = std::move(sample.error);
    if (event.finish == FinishReason::kNone) continue;
    sample.ended = true;
    --num_open_;
  }
  with_news_.clear();
  events->resize(count);
  return count > 0;
}

bool StreamState::Wait(double seconds) {
  std::unique_lock lock(mutex_);
  return news_.wait_for(lock, std::chrono::duration<double>(seconds),
                        [this] { return !with_news_.empty(); });
}

bool StreamState::MarkStopped(int index) {
  std::lock_guard lock(mutex_);
  if (index < 0 || index >= static_cast<int>(samples_.size())) return false;
  Sample& sample = samples_[static_cast<size_t>(index)];
  if (sample.ended) return false;
  sample.ended = true;
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
