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
  try {
    std::lock_guard lock(mutex_);
    pinned_[static_cast<size_t>(io_thread)].push_back(reader);
  } catch (...) {
    reader->pinned_.store(false);  // the next try is one
    throw;
  }
}

void NewsBoard::Deliver() {
  for (size_t i = 0; i < pinned_.size(); ++i) {
    // Shared, as std::function copies; the readers are released on their own thread.
    const auto readers = std::make_shared<Readers>();
    {
      std::lock_guard lock(mutex_);
      readers->swap(pinned_[i]);
    }
    if (readers->empty()) continue;
    try {
      post_(static_cast<int>(i), [readers] {
        for (const std::shared_ptr<NewsReader>& reader : *readers) {
          reader->pinned_.store(false);
          reader->OnNews();
        }
        readers->clear();
      });
    } catch (...) {
      // They are told with the next ones: in practice only the thread that delivers pins readers.
      std::lock_guard lock(mutex_);
      readers->insert(readers->end(), pinned_[i].begin(), pinned_[i].end());
      readers->swap(pinned_[i]);
      throw;
    }
  }
}

}  // namespace tiercel::server
