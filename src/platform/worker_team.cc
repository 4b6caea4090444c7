#include "platform/worker_team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstring>
#include <optional>
#include <set>
#include <system_error>
#include <thread>

#include "base/log.h"
#include "platform/topology.h"

namespace tiercel::platform {
namespace {

constexpr size_t kCacheLine = 128;  // two lines: the L2 prefetcher fetches them in pairs

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// An event counter that threads wait on: spin for a while, then sleep in the kernel.
//
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

  // Returns when the counter is no longer `seen`; spins `most` pauses at most.
  //
  // A spin that ends in sleep was wasted, and took a core from whoever is late: then the next ones
  // are shorter by half, down to a sixteenth; those that succeed lengthen them by an eighth. So
  // the spin fades while a neighbor holds a core, and is back some barriers after it has gone.
  void WaitWhile(uint32_t seen, int most) {
    const int limit = most - shortened_.load(std::memory_order_relaxed);
    for (int i = 0; i < limit; ++i) {
      if (count() != seen) {
        if (i > 0 && limit < most) Shorten(most - std::min(most, limit + limit / 8 + 1));
        return;
      }
      Pause();
    }
    while (count() == seen) {
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      syscall(SYS_futex, Word(), FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    if (limit > most / 16) Shorten(most - std::max(most / 16, limit / 2));
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

std::chrono::nanoseconds PauseTime() {
  constexpr int kPauses = 256;  // 5 to 15 µs
  auto best = std::chrono::nanoseconds::max();
  for (int run = 0; run < 3; ++run) {  // the shortest: another thread may take the core meanwhile
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kPauses; ++i) Pause();
    best = std::min<std::chrono::nanoseconds>(best, std::chrono::steady_clock::now() - start);
  }
  return std::max(best / kPauses, std::chrono::nanoseconds(1));
}

// How long a wait spins. A sleep and its wake-up cost 5 to 50 µs, most where a halted virtual CPU
// must be woken: spinning that long at most doubles the cost of a wait that ends in sleep, and
// catches nearly all of a step's barriers. A quota charges the spinning, so less of it; with fewer
// cores than workers it keeps the awaited one from running, so next to none.
int ChooseSpinIterations(const std::vector<int>& cpus) {
  const Expected<Topology> topology = Topology::Detect();
  const size_t distinct = std::set<int>(cpus.begin(), cpus.end()).size();
  std::chrono::nanoseconds spin = std::chrono::microseconds(50);
  if (distinct < cpus.size() || !topology || topology->cpus.size() < cpus.size()) {
    spin = std::chrono::nanoseconds(500);
  } else if (topology->cpu_quota > 0) {
    spin = std::chrono::microseconds(5);
  }
  return static_cast<int>(spin / PauseTime());
}

// Affinity of the calling thread. A CPU that is not allowed leaves it as it is: the team then
// works, only less steadily.
void PinTo(int cpu) {
  cpu_set_t* set = CPU_ALLOC(cpu + 1);
  if (set == nullptr) return;
  const size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
  CPU_ZERO_S(bytes, set);
  CPU_SET_S(cpu, bytes, set);
  if (sched_setaffinity(0, bytes, set) != 0) {
    LOG_DEBUG("cannot pin a thread to CPU {}: {}", cpu, std::strerror(errno));
  }
  CPU_FREE(set);
}

// Pins the calling thread for its own lifetime.
class ScopedPin {
 public:
  explicit ScopedPin(int cpu) {
    saved_ = sched_getaffinity(0, sizeof(before_), &before_) == 0;
    if (saved_) PinTo(cpu);
  }
  ~ScopedPin() {
    if (saved_) sched_setaffinity(0, sizeof(before_), &before_);
  }
  ScopedPin(const ScopedPin&) = delete;
  ScopedPin& operator=(const ScopedPin&) = delete;

 private:
  cpu_set_t before_;
  bool saved_ = false;  // not on machines with more CPUs than cpu_set_t holds: then no pinning
};

}  // namespace

struct WorkerTeam::Impl {
  // Written by Run before `dispatch` advances, read by the workers after.
  const FunctionRef<void(int)>* function = nullptr;
  bool stop = false;
  int size = 1;
  int spin_iterations = 0;
  bool pin = true;
  std::vector<int> cpus;
  std::vector<std::thread> threads;

  Event dispatch;  // one count for each Run
  // The barrier: the last of `size` arrivals advances `phase`. A worker reads the phase before it
  // arrives, and the phase cannot advance without it, so one counter serves every round.
  Event phase;
  alignas(kCacheLine) std::atomic<int> arrived{0};

  // Returns the phase to wait for the end of.
  uint32_t Arrive() {
    const uint32_t current = phase.count();
    if (arrived.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
      arrived.store(0, std::memory_order_relaxed);  // published by the phase's store
      phase.Advance();
    }
    return current;
  }

  void Work(int worker) {
    if (pin) PinTo(cpus[static_cast<size_t>(worker)]);
    for (uint32_t seen = 0;; ++seen) {
      dispatch.WaitWhile(seen, spin_iterations);
      if (stop) return;
      (*function)(worker);
      Arrive();  // the next dispatch comes after all have arrived: no need to wait for the phase
    }
  }

  void Stop() {
    stop = true;
    dispatch.Advance();
    for (std::thread& thread : threads) thread.join();
  }
};

WorkerTeam::WorkerTeam(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

WorkerTeam::~WorkerTeam() { impl_->Stop(); }

Expected<std::unique_ptr<WorkerTeam>> WorkerTeam::Create(const WorkerTeamOptions& options) {
  constexpr size_t kMaxWorkers = 4096;
  if (options.cpus.empty() || options.cpus.size() > kMaxWorkers) {
    return Unexpected(InvalidArgument("a worker team has 1 to {} workers, not {}", kMaxWorkers,
                                      options.cpus.size()));
  }
  auto impl = std::make_unique<Impl>();
  impl->size = static_cast<int>(options.cpus.size());
  impl->cpus = options.cpus;
  impl->pin = options.pin;
  impl->spin_iterations =
      options.spin_iterations >= 0 ? options.spin_iterations : ChooseSpinIterations(options.cpus);
  for (int worker = 1; worker < impl->size; ++worker) {
    try {
      impl->threads.emplace_back([state = impl.get(), worker] { state->Work(worker); });
    } catch (const std::system_error& error) {
      impl->Stop();
      return Unexpected(ResourceExhausted("cannot start worker thread {} of {}: {}", worker,
                                          impl->size, error.what()));
    }
    const std::string name = "worker-" + std::to_string(worker);
    pthread_setname_np(impl->threads.back().native_handle(), name.c_str());
  }
  return std::unique_ptr<WorkerTeam>(new WorkerTeam(std::move(impl)));
}

int WorkerTeam::size() const { return impl_->size; }

void WorkerTeam::Run(FunctionRef<void(int worker)> fn) {
  std::optional<ScopedPin> pin;
  if (impl_->pin) pin.emplace(impl_->cpus[0]);
  impl_->function = &fn;
  impl_->dispatch.Advance();
  fn(0);
  impl_->phase.WaitWhile(impl_->Arrive(), impl_->spin_iterations);
}

void WorkerTeam::Barrier() {
  if (impl_->size == 1) return;
  impl_->phase.WaitWhile(impl_->Arrive(), impl_->spin_iterations);
}

}  // namespace tiercel::platform
