#include "server/news_board.h"

#include <utility>

namespace tiercel::server {

NewsBoard::NewsBoard(int num_io_threads, Poster post)
    : post_(std::move(post)), pinned_(static_cast<size_t>(num_io_threads)) {}

std::function<void()> NewsBoard::NotifierOf(int io_thread, std::weak_ptr<NewsReader> reader) {
  return [this, io_thread, weak = std::move(reader)] {
    auto strong = weak.lock();
    if (strong != nullptr) Pin(io_thread, std::move(strong));
  };
}

void NewsBoard::Pin(int io_thread, std::shared_ptr<NewsReader> reader) {
  if (reader->pinned_.exchange(true)) return;
  std::lock_guard lock(mutex_);
  pinned_[static_cast<size_t>(io_thread)].push_back(std::move(reader));
}

void NewsBoard::Deliver() {
  std::vector<Readers> taken(pinned_.size());
  {
    std::lock_guard lock(mutex_);
    taken.swap(pinned_);
  }
  for (size_t i = 0; i < taken.size(); ++i) {
    if (taken[i].empty()) continue;
    // Shared, as std::function copies; the readers are released on their own thread.
    auto readers = std::make_shared<Readers>(std::move(taken[i]));
    post_(static_cast<int>(i), [readers] {
      for (const std::shared_ptr<NewsReader>& reader : *readers) {
        reader->pinned_.store(false);
        reader->OnNews();
      }
      readers->clear();
    });
  }
}

}  // namespace tiercel::server
