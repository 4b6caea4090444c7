#include "platform/worker_team.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "platform/topology.h"

namespace tiercel::platform {
namespace {

// `workers` CPU numbers out of those that this process may use, repeated where they run out.
WorkerTeamOptions Options(int workers) {
  const Topology topology = *Topology::Detect();
  WorkerTeamOptions options;
  for (int i = 0; i < workers; ++i) {
    options.cpus.push_back(topology.cpus[static_cast<size_t>(i) % topology.cpus.size()].id);
  }
  return options;
}

double ProcessCpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](timeval t) { return t.tv_sec + 1e-6 * t.tv_usec; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class TeamOf : public testing::TestWithParam<int> {};

TEST_P(TeamOf, RunsEveryWorkerOnceEachTime) {
  const int n = GetParam();
  const auto team = WorkerTeam::Create(Options(n));
  ASSERT_TRUE(team) << team.error();
  ASSERT_EQ((*team)->size(), n);
  std::vector<int> calls(static_cast<size_t>(n), 0);  // plain: each worker has its own element
  const std::thread::id caller = std::this_thread::get_id();
  for (int round = 1; round <= 2000; ++round) {
    (*team)->Run([&](int worker) {
      ++calls[static_cast<size_t>(worker)];
      if (worker == 0) {
        ASSERT_EQ(std::this_thread::get_id(), caller);
      }
    });
    for (int count : calls) ASSERT_EQ(count, round);
  }
}

// Plain (not atomic) data crosses the workers between barriers: a missing order shows as a wrong
// sum, and as a report under ThreadSanitizer.
TEST_P(TeamOf, BarriersOrderPlainWrites) {
  const int n = GetParam();
  const auto team = WorkerTeam::Create(Options(n));
  ASSERT_TRUE(team);
  std::vector<int64_t> cells(static_cast<size_t>(n) * 64, 0);
  std::atomic<int64_t> wrong{0};
  for (int run = 0; run < 20; ++run) {
    (*team)->Run([&](int worker) {
      for (int64_t round = 1; round <= 100; ++round) {
        cells[static_cast<size_t>(worker) * 64] = round * (worker + 1);
        (*team)->Barrier();
        int64_t sum = 0;
        for (int other = 0; other < n; ++other) sum += cells[static_cast<size_t>(other) * 64];
        if (sum != round * n * (n + 1) / 2) ++wrong;
        (*team)->Barrier();
      }
    });
  }
  EXPECT_EQ(wrong, 0);
}

// Workers that come late by random times, so that some waits end in a spin and some in a sleep.
TEST_P(TeamOf, LateWorkersAreWaitedFor) {
  const int n = GetParam();
  WorkerTeamOptions options = Options(n);
  for (int spin : {-1, 0, 200}) {
    options.spin_iterations = spin;
    const auto team = WorkerTeam::Create(options);
    ASSERT_TRUE(team);
    std::atomic<int> before{0}, wrong{0};
    for (int run = 0; run < 20; ++run) {
      before = 0;
      (*team)->Run([&](int worker) {
        for (int round = 1; round <= 10; ++round) {
          if ((worker * 7 + round * 3 + run) % 5 == 0) usleep(100);
          ++before;
          (*team)->Barrier();
          if (before < round * n) ++wrong;
          (*team)->Barrier();
        }
      });
    }
    EXPECT_EQ(wrong, 0) << "spin_iterations " << spin;
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, TeamOf, testing::Range(1, 9));

TEST(WorkerTeam, RefusesAnEmptyTeam) {
  const auto team = WorkerTeam::Create({});
  ASSERT_FALSE(team);
  EXPECT_EQ(team.error().code(), StatusCode::kInvalidArgument);
}

TEST(WorkerTeam, SleepsWhileIdle) {
  const auto team = WorkerTeam::Create(Options(4));
  ASSERT_TRUE(team);
  (*team)->Run([](int) {});
  usleep(20000);
  const double before = ProcessCpuSeconds();
  usleep(200000);
  EXPECT_LT(ProcessCpuSeconds() - before, 0.05);
}

TEST(WorkerTeam, PinsWorkersAndGivesTheCallersMaskBack) {
  const WorkerTeamOptions options = Options(2);
  const auto team = WorkerTeam::Create(options);
  ASSERT_TRUE(team);
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  std::vector<int> counts(2), first(2);
  (*team)->Run([&](int worker) {
    cpu_set_t set;
    sched_getaffinity(0, sizeof(set), &set);
    counts[static_cast<size_t>(worker)] = CPU_COUNT(&set);
    first[static_cast<size_t>(worker)] =
        CPU_ISSET(options.cpus[static_cast<size_t>(worker)], &set) ? 1 : 0;
  });
  EXPECT_EQ(counts, (std::vector<int>{1, 1}));
  EXPECT_EQ(first, (std::vector<int>{1, 1}));
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(WorkerTeam, UnpinnedWorkersKeepTheProcessMask) {
  WorkerTeamOptions options = Options(2);
  options.pin = false;
  const auto team = WorkerTeam::Create(options);
  ASSERT_TRUE(team);
  cpu_set_t mask;
  ASSERT_EQ(sched_getaffinity(0, sizeof(mask), &mask), 0);
  std::atomic<int> other{0};
  (*team)->Run([&](int) {
    cpu_set_t set;
    sched_getaffinity(0, sizeof(set), &set);
    if (!CPU_EQUAL(&set, &mask)) ++other;
  });
  EXPECT_EQ(other, 0);
}

TEST(WorkerTeam, CallersMayChangeBetweenRuns) {
  const auto team = WorkerTeam::Create(Options(3));
  ASSERT_TRUE(team);
  std::atomic<int> calls{0};
  for (int i = 0; i < 10; ++i) {
    std::thread([&] { (*team)->Run([&](int) { ++calls; }); }).join();
  }
  EXPECT_EQ(calls, 30);
}

TEST(WorkerTeam, TwoTeamsWorkSideBySide) {
  const auto a = WorkerTeam::Create(Options(2));
  const auto b = WorkerTeam::Create(Options(2));
  ASSERT_TRUE(a && b);
  std::atomic<int> calls{0};
  const auto drive = [&](WorkerTeam& team) {
    for (int i = 0; i < 200; ++i) {
      team.Run([&](int) {
        team.Barrier();
        ++calls;
      });
    }
  };
  std::thread other([&] { drive(**b); });
  drive(**a);
  other.join();
  EXPECT_EQ(calls, 800);
}

}  // namespace
}  // namespace tiercel::platform
