// WorkPool: a few threads for work too long for an I/O thread (templates, tokenization).
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tiercel::server {

class WorkPool {
 public:
  explicit WorkPool(int num_threads);
  ~WorkPool();  // drops what has not begun, waits for what has

  // First in, first out. Any thread.
  void Post(std::function<void()> task);

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tiercel::server
