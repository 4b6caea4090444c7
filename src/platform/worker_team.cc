#include "platform/worker_team.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
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
#include "platform/event.h"
#include "platform/team_barrier.h"
#include "platform/topology.h"

namespace tiercel::platform {
namespace {

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
  // At barriers so far: those of all workers, and those of its rank where there are several.
  std::atomic<uint32_t> arrivals{0}, rank_arrivals{0};
  std::atomic<pthread_t> thread{};    // of worker 0: the present caller of Run
  std::atomic<int> cpu{0};            // where it is pinned
  int node = 0, kind = 0;             // of that CPU, whichever it is at present
  int index = 0;                      // of the worker, among all
  int rank = 0;
};

// What a wait that only waits does meanwhile.
constexpr auto kNothing = [] { return false; };

// `meanwhile`, until it has returned false once.
auto UntilFalse(FunctionRef<bool()> meanwhile) {
  return [meanwhile, more = true]() mutable { return more && (more = meanwhile()); };
}

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
  std::optional<TeamBarrier> of_all;
  std::vector<std::unique_ptr<TeamBarrier>> of_ranks;  // empty: one rank, which is all
  std::atomic<bool> lending{false};

  using Arrivals = std::atomic<uint32_t> Member::*;

  int rank_size() const { return size / std::max<int>(1, static_cast<int>(of_ranks.size())); }

  // Returns the phase to wait for the end of.
  uint32_t ArriveOfAll() {
    self->arrivals.store(of_all->phase().count() + 1, std::memory_order_relaxed);
    return of_all->Arrive(self->index);
  }
  uint32_t ArriveOfRank() {
    TeamBarrier& barrier = *of_ranks[static_cast<size_t>(self->rank)];
    self->rank_arrivals.store(barrier.phase().count() + 1, std::memory_order_relaxed);
    return barrier.Arrive(self->index % rank_size());
  }

  template <typename Meanwhile>
  void MeetAll(Meanwhile meanwhile) {
    if (size == 1) return;
    Wait(&of_all->phase(), ArriveOfAll(), &Member::arrivals, 0, size, meanwhile);
  }
  template <typename Meanwhile>
  void MeetRank(Meanwhile meanwhile) {
    if (of_ranks.empty()) return MeetAll(meanwhile);
    if (rank_size() == 1) return;
    const int first = self->rank * rank_size();
    Wait(&of_ranks[static_cast<size_t>(self->rank)]->phase(), ArriveOfRank(), &Member::rank_arrivals,
         first, first + rank_size(), meanwhile);
  }

  // For the end of a phase, for which the workers [first, end) are awaited.
  template <typename Meanwhile>
  void Wait(Event* phase, uint32_t current, Arrivals arrivals, int first, int end,
            Meanwhile meanwhile) {
    if (phase->Spin(current, spin_iterations, meanwhile)) return;
    constexpr timespec kPatience{0, 300'000};  // ns: the late one may lose its core later, too
    while (phase->count() == current) {
      if (lend) LendCore(*phase, current, arrivals, first, end);
      phase->Sleep(current, lend ? &kPatience : nullptr);
    }
  }

  // A worker that waits has a core to spare. If another is late because something else runs on its
  // core (the kernel gives that milliseconds at a time, as long as tens of barriers), the two change
  // places: the late one goes on here at once, and this one sleeps over there until it is woken.
  void LendCore(const Event& phase, uint32_t current, Arrivals arrivals, int first, int end) {
    if (lending.exchange(true, std::memory_order_acquire)) return;
    for (int worker = first; worker < end; ++worker) {
      Member& late = members[static_cast<size_t>(worker)];
      if (late.node != self->node || late.kind != self->kind) continue;
      if ((late.*arrivals).load(std::memory_order_relaxed) == current + 1) continue;
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
      ArriveOfAll();  // the next dispatch comes after all have arrived: no need to wait for the phase
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
  if (options.cpus.empty() || options.cpus.size() > kMaxWorkers) {
    return Unexpected(InvalidArgument("a worker team has 1 to {} workers, not {}", kMaxWorkers,
                                      options.cpus.size()));
  }
  for (const auto& [what, list] : {std::pair{"NUMA nodes", &options.nodes}, {"kinds", &options.kinds},
                                   {"caches", &options.caches}}) {
    if (list->empty() || list->size() == options.cpus.size()) continue;
    return Unexpected(InvalidArgument("a worker team of {} CPUs has as many {}, not {}", options.cpus.size(), what,
                                      list->size()));
  }
  if (options.ranks < 1 || options.cpus.size() % static_cast<size_t>(options.ranks) != 0) {
    return Unexpected(InvalidArgument("{} workers cannot be shared out among {} ranks",
                                      options.cpus.size(), options.ranks));
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
    if (!options.kinds.empty()) impl->members[i].kind = options.kinds[i];
    impl->members[i].index = static_cast<int>(i);
    impl->members[i].rank = static_cast<int>(i * static_cast<size_t>(options.ranks) / options.cpus.size());
  }
  const std::vector<int> caches =
      options.caches.empty() ? std::vector<int>(options.cpus.size()) : options.caches;
  // A cache that ranks share is a group for each of them.
  std::vector<int> groups = caches;
  const int most = *std::max_element(caches.begin(), caches.end()) + 1;
  for (size_t i = 0; i < groups.size(); ++i) groups[i] += impl->members[i].rank * most;
  impl->of_all.emplace(groups);
  for (int rank = 0; options.ranks > 1 && rank < options.ranks; ++rank) {
    const auto per_rank = static_cast<std::ptrdiff_t>(caches.size()) / options.ranks;
    const auto first = caches.begin() + rank * per_rank;
    impl->of_ranks.push_back(std::make_unique<TeamBarrier>(std::vector<int>(first, first + per_rank)));
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
    impl_->MeetAll(kNothing);
  }
  self = outer;
}

int WorkerTeam::ranks() const { return impl_->size / impl_->rank_size(); }

void WorkerTeam::Barrier() { impl_->MeetRank(kNothing); }
void WorkerTeam::Barrier(FunctionRef<bool()> meanwhile) { impl_->MeetRank(UntilFalse(meanwhile)); }
void WorkerTeam::BarrierOfRanks() { impl_->MeetAll(kNothing); }
void WorkerTeam::BarrierOfRanks(FunctionRef<bool()> meanwhile) {
  impl_->MeetAll(UntilFalse(meanwhile));
}

}  // namespace tiercel::platform
