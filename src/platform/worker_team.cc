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
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <optional>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

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

// A CPU that is not allowed leaves the thread's affinity as it is: the team then works, only less
// steadily.
void PinTo(pthread_t thread, int cpu) {
  cpu_set_t* set = CPU_ALLOC(cpu + 1);
  if (set == nullptr) return;
  const size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
  CPU_ZERO_S(bytes, set);
  CPU_SET_S(cpu, bytes, set);
  if (const int error = pthread_setaffinity_np(thread, bytes, set); error != 0) {
    LOG_DEBUG("cannot pin a thread to CPU {}: {}", cpu, std::strerror(error));
  }
  CPU_FREE(set);
}

// Whether a living thread gets no core at this moment: its CPU time stands still while ours goes on.
bool IsOffCore(pthread_t thread) {
  clockid_t clock;
  timespec before, after;
  if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &before) != 0) return false;
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(10);
  while (std::chrono::steady_clock::now() < until) Pause();
  return clock_gettime(clock, &after) == 0 && before.tv_sec == after.tv_sec &&
         before.tv_nsec == after.tv_nsec;
}

// Pins the calling thread for its own lifetime.
class ScopedPin {
 public:
  explicit ScopedPin(int cpu) {
    saved_ = sched_getaffinity(0, sizeof(before_), &before_) == 0;
    if (saved_) PinTo(pthread_self(), cpu);
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

// What the others know of one worker.
struct alignas(kCacheLine) Member {
  std::atomic<uint32_t> arrivals{0};  // at barriers, so far
  std::atomic<pthread_t> thread{};    // of worker 0: the present caller of Run
  std::atomic<int> cpu{0};            // where it is pinned
  int node = 0;                       // of that CPU, whichever it is at present
};

// What a wait that only waits does meanwhile.
constexpr auto kNothing = [] { return false; };

[[noreturn, gnu::cold]] void DieOf(int worker, const char* what) {
  // Not by the logger: it may allocate, and the message may be that there is no memory.
  std::fprintf(stderr, "worker %d of the team failed: %s\n", worker, what);
  std::fflush(stderr);
  std::abort();
}

// The calling thread's place in the team that it works for at present.
thread_local Member* self = nullptr;

}  // namespace

struct WorkerTeam::Impl {
  // Written by Run before `dispatch` advances, read by the workers after.
  const FunctionRef<void(int)>* function = nullptr;
  bool stop = false;
  int size = 1;
  int spin_iterations = 0;
  bool pin = true;
  bool lend = false;  // pinned, to a CPU each: see LendCore
  std::vector<Member> members;
  std::vector<std::thread> threads;

  Event dispatch;  // one count for each Run
  // The barrier: the last of `size` arrivals advances `phase`. A worker reads the phase before it
  // arrives, and the phase cannot advance without it, so one counter serves every round.
  Event phase;
  alignas(kCacheLine) std::atomic<int> arrived{0};
  std::atomic<bool> lending{false};

  // Returns the phase to wait for the end of.
  uint32_t Arrive() {
    const uint32_t current = phase.count();
    self->arrivals.store(current + 1, std::memory_order_relaxed);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
      arrived.store(0, std::memory_order_relaxed);  // published by the phase's store
      phase.Advance();
    }
    return current;
  }

  template <typename Meanwhile>
  void WaitForPhase(uint32_t current, Meanwhile meanwhile) {
    if (phase.Spin(current, spin_iterations, meanwhile)) return;
    constexpr timespec kPatience{0, 300'000};  // ns: the late one may lose its core later, too
    while (phase.count() == current) {
      if (lend) LendCore(current);
      phase.Sleep(current, lend ? &kPatience : nullptr);
    }
  }

  // A worker that waits has a core to spare. If another is late because something else runs on its
  // core (the kernel gives that milliseconds at a time, as long as tens of barriers), the two change
  // places: the late one goes on here at once, and this one sleeps over there until it is woken.
  void LendCore(uint32_t current) {
    if (lending.exchange(true, std::memory_order_acquire)) return;
    for (Member& late : members) {
      if (late.node != self->node) continue;
      if (late.arrivals.load(std::memory_order_relaxed) == current + 1) continue;
      const pthread_t thread = late.thread.load(std::memory_order_relaxed);
      if (!IsOffCore(thread) || phase.count() != current) break;
      const int here = self->cpu.load(std::memory_order_relaxed);
      const int there = late.cpu.load(std::memory_order_relaxed);
      late.cpu.store(here, std::memory_order_relaxed);
      self->cpu.store(there, std::memory_order_relaxed);
      PinTo(thread, here);
      PinTo(pthread_self(), there);
      break;
    }
    lending.store(false, std::memory_order_release);
  }

  void Call(int worker) const noexcept {
    try {
      (*function)(worker);
    } catch (const std::exception& error) {
      DieOf(worker, error.what());
    } catch (...) {
      DieOf(worker, "something that is not a std::exception");
    }
  }

  void Work(int worker) {
    self = &members[static_cast<size_t>(worker)];
    if (pin) PinTo(pthread_self(), self->cpu);
    for (uint32_t seen = 0;; ++seen) {
      if (!dispatch.Spin(seen, spin_iterations, kNothing)) {
        while (dispatch.count() == seen) dispatch.Sleep(seen, nullptr);
      }
      if (stop) return;
      Call(worker);
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
  if (!options.nodes.empty() && options.nodes.size() != options.cpus.size()) {
    return Unexpected(InvalidArgument("a worker team of {} CPUs has as many NUMA nodes, not {}",
                                      options.cpus.size(), options.nodes.size()));
  }
  auto impl = std::make_unique<Impl>();
  impl->size = static_cast<int>(options.cpus.size());
  impl->pin = options.pin;
  impl->lend = options.pin && std::set<int>(options.cpus.begin(), options.cpus.end()).size() ==
                                  options.cpus.size();
  impl->members = std::vector<Member>(options.cpus.size());
  for (size_t i = 0; i < options.cpus.size(); ++i) {
    impl->members[i].cpu = options.cpus[i];
    if (!options.nodes.empty()) impl->members[i].node = options.nodes[i];
  }
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
    const pthread_t thread = impl->threads.back().native_handle();
    pthread_setname_np(thread, name.c_str());
    impl->members[static_cast<size_t>(worker)].thread = thread;  // before it has run: see LendCore
  }
  return std::unique_ptr<WorkerTeam>(new WorkerTeam(std::move(impl)));
}

int WorkerTeam::size() const { return impl_->size; }

void WorkerTeam::Run(FunctionRef<void(int worker)> fn) noexcept {
  Member* const outer = std::exchange(self, &impl_->members[0]);
  self->thread = pthread_self();
  {
    std::optional<ScopedPin> pin;
    if (impl_->pin) pin.emplace(self->cpu);
    impl_->function = &fn;
    impl_->dispatch.Advance();
    impl_->Call(0);
    impl_->WaitForPhase(impl_->Arrive(), kNothing);
  }
  self = outer;
}

void WorkerTeam::Barrier() {
  if (impl_->size > 1) impl_->WaitForPhase(impl_->Arrive(), kNothing);
}

void WorkerTeam::Barrier(FunctionRef<bool()> meanwhile) {
  if (impl_->size == 1) return;
  bool more = true;
  impl_->WaitForPhase(impl_->Arrive(), [&] { return more && (more = meanwhile()); });
}

}  // namespace tiercel::platform
