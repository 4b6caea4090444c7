// Event: a counter that threads wait on, by spinning for a while and then asleep in the kernel.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <ctime>

namespace tiercel::platform {

inline constexpr size_t kCacheLine = 128;  // two lines: the L2 prefetcher fetches them in pairs

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The counter's store and the look at `sleepers_` (and a sleeper's increment and the kernel's look
// at the counter) are both sequentially consistent: either the waker sees the sleeper, or the
// kernel sees the new count and does not put it to sleep.
class alignas(kCacheLine) Event {
 public:
  uint32_t count() const { return count_.load(std::memory_order_acquire); }

  // Only one thread at a time may advance.
  void Advance() {
    count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      syscall(SYS_futex, Word(), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
    }
  }

  // Whether the counter is no longer `seen`; spins `most` pauses at most.
  //
  // A spin in vain took a core from whoever is late: then the next ones are shorter by half, down to
  // a sixteenth; those that succeed lengthen them by an eighth. So the spin fades while a neighbor
  // holds a core, and is back some barriers after it has gone.
  template <typename Meanwhile>
  bool Spin(uint32_t seen, int most, Meanwhile meanwhile) {
    const int limit = most - shortened_.load(std::memory_order_relaxed);
    for (int i = 0; i < limit; ++i) {
      if (count() != seen) {
        if (i > 0 && limit < most) Shorten(most - std::min(most, limit + limit / 8 + 1));
        return true;
      }
      if (!meanwhile()) Pause();
    }
    if (limit > most / 16) Shorten(most - std::max(most / 16, limit / 2));
    return false;
  }

  // Sleeps while the counter is `seen`, until `patience` is over (null: for ever) or for no reason.
  void Sleep(uint32_t seen, const timespec* patience) {
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (count() == seen) {
      syscall(SYS_futex, Word(), FUTEX_WAIT_PRIVATE, seen, patience, nullptr, 0);
    }
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  uint32_t* Word() {
    static_assert(sizeof(count_) == sizeof(uint32_t) && decltype(count_)::is_always_lock_free);
    return reinterpret_cast<uint32_t*>(&count_);
  }

  void Shorten(int pauses) { shortened_.store(pauses, std::memory_order_relaxed); }

  std::atomic<uint32_t> count_{0};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<int> shortened_{0};  // pauses that waits do without at present
};

}  // namespace tiercel::platform
