#include "server/work_pool.h"

#include <sys/resource.h>

#include <chrono>
#include <exception>
#include <optional>
#include <utility>

#include "base/log.h"

namespace tiercel::server {

namespace {

int64_t NowMicroseconds() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void RunTask(std::function<void()> task) {
  try {
    task();
  } catch (const std::exception& exception) {
    LOG_ERROR("a request could not be prepared: {}", exception.what());
  }
}

}  // namespace

WorkPool::WorkPool(int num_threads) {
  threads_.emplace_back([this] { Run(/*only_short=*/true); });
  for (int i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this] {
      // Of this thread alone, in Linux. It stays at the usual priority if that is refused.
      constexpr int kNice = 5;
      (void)setpriority(PRIO_PROCESS, 0, kNice);
      Run(/*only_short=*/false);
    });
  }
}

WorkPool::~WorkPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkPool::Post(WorkCost cost, std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    turns_.Add(NowMicroseconds(), cost, std::move(task));
  }
  // All: the one that wakes may be kept for another kind of work.
  changed_.notify_all();
}

void WorkPool::Run(bool only_short) {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !turns_.empty(only_short); });
    if (stopping_) return;
    std::optional<std::function<void()>> task = turns_.Next(only_short);
    lock.unlock();
    RunTask(std::move(*task));  // what it holds is released outside the lock as well
    lock.lock();
  }
}

}  // namespace tiercel::server
