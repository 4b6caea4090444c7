// NewsBoard: brings the engine's news to the I/O threads with one wake-up per thread and step.
//
// The engine thread pins readers to the board as their streams get something, and at the end of
// the step delivers each I/O thread's list with one Post.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace tiercel::server {

class NewsReader {
 public:
  virtual ~NewsReader() = default;
  virtual void OnNews() = 0;  // on its I/O thread

 private:
  friend class NewsBoard;
  std::atomic<bool> pinned_{false};
};

class NewsBoard {
 public:
  // Runs a task on an I/O thread.
  using Poster = std::function<void(int io_thread, std::function<void()> task)>;
  NewsBoard(int num_io_threads, Poster post);

  // For Engine::Submit: pins the reader, if it is still there and not pinned yet. The board outlives the engine.
  std::function<void()> NotifierOf(int io_thread, std::weak_ptr<NewsReader> reader);
  // Any thread: in practice the engine's, after each step.
  void Deliver();

 private:
  using Readers = std::vector<std::shared_ptr<NewsReader>>;

  void Pin(int io_thread, std::shared_ptr<NewsReader> reader);

  Poster post_;
  std::mutex mutex_;
  std::vector<Readers> pinned_;  // by I/O thread
};

}  // namespace tiercel::server
