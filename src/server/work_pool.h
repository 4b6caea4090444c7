// WorkPool: a few threads for work too long for an I/O thread (templates, tokenization).
//
// One more thread than asked for is kept for short work alone, so a long prompt never stands before
// a short one. The others give way to it, and to the engine, by a lower priority of the system.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "server/turns.h"

namespace tiercel::server {

class WorkPool {
 public:
  explicit WorkPool(int num_threads);
  ~WorkPool();  // drops what has not begun, waits for what has

  // See Turns. What a task throws is logged and goes no further. Any thread.
  void Post(WorkCost cost, std::function<void()> task);

 private:
  void Run(bool only_short);

  std::mutex mutex_;
  std::condition_variable changed_;
  Turns<std::function<void()>> turns_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tiercel::server
