#include "api/response_events.h"

#include <utility>

namespace tiercel::api {

void ResponseEvents::Append(std::string_view events) {
  constexpr std::string_view kEnd = "\n\n";
  std::lock_guard lock(mutex_);
  while (!events.empty()) {
    const size_t size = events.find(kEnd) + kEnd.size();
    events_.emplace_back(events.substr(0, size));
    bytes_ += sizeof(std::string) + size;
    events.remove_prefix(size);
  }
}

void ResponseEvents::Show() { ShowAll(false); }

void ResponseEvents::Close() { ShowAll(true); }

void ResponseEvents::ShowAll(bool close) {
  std::vector<std::weak_ptr<Watcher>> watchers;
  {
    std::lock_guard lock(mutex_);
    num_shown_ = events_.size();
    closed_ = closed_ || close;
    watchers = watchers_;
  }
  // Without the lock: a watcher may read at once.
  for (const auto& weak : watchers) {
    if (const auto watcher = weak.lock()) watcher->OnMore();
  }
}

size_t ResponseEvents::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

void ResponseEvents::Watch(std::weak_ptr<Watcher> watcher) const {
  std::lock_guard lock(mutex_);
  std::erase_if(watchers_, [](const auto& w) { return w.expired(); });
  watchers_.push_back(std::move(watcher));
}

bool ResponseEvents::Read(size_t most, int64_t* next, std::string* out) const {
  std::lock_guard lock(mutex_);
  const auto count = static_cast<int64_t>(num_shown_);
  while (*next < count && out->size() < most) *out += events_[static_cast<size_t>((*next)++)];
  return !closed_ || *next < count;
}

}  // namespace tiercel::api
