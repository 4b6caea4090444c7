#include "platform/worker_team.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
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

// The only CPU that the thread may use; −1 if there are several.
int PinnedCpu(pthread_t thread) {
  cpu_set_t set;
  CPU_ZERO(&set);
  pthread_getaffinity_np(thread, sizeof(set), &set);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) return CPU_COUNT(&set) == 1 ? cpu : -1;
  }
  return -1;
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

struct Ranks {
  int ranks, workers;  // of each
  std::vector<int> caches;
};

class TeamOfRanks : public testing::TestWithParam<Ranks> {};

// Plain variables, written before a barrier and read after it: by the rank at its own, by all at that of
// all, in any order of the two.
TEST_P(TeamOfRanks, BarriersOrderPlainWrites) {
  const int ranks = GetParam().ranks, workers = GetParam().workers;
  WorkerTeamOptions options = Options(ranks * workers);
  options.ranks = ranks;
  options.caches = GetParam().caches;
  const auto team = WorkerTeam::Create(options);
  ASSERT_TRUE(team) << team.error();
  ASSERT_EQ((*team)->ranks(), ranks);
  ASSERT_EQ((*team)->size(), ranks * workers);
  std::vector<int64_t> values(static_cast<size_t>(ranks * workers), 0);
  std::atomic<int> wrong{0};
  (*team)->Run([&](int worker) {
    const int first = worker / workers * workers;
    const auto equal = [&](int begin, int end, int64_t value) {
      for (int i = begin; i < end; ++i) wrong += values[static_cast<size_t>(i)] != value;
    };
    for (int64_t round = 1; round <= 300; ++round) {
      values[static_cast<size_t>(worker)] = round;
      const bool all = round % 3 == 0;
      all ? (*team)->BarrierOfRanks() : (*team)->Barrier();
      all ? equal(0, ranks * workers, round) : equal(first, first + workers, round);
      // What all have read, nobody writes before all have read it.
      all || round % 2 == 0 ? (*team)->BarrierOfRanks() : (*team)->Barrier();
    }
  });
  EXPECT_EQ(wrong, 0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, TeamOfRanks,
                         testing::Values(Ranks{1, 3, {}}, Ranks{2, 1, {}}, Ranks{2, 2, {}}, Ranks{3, 2, {}},
                                         Ranks{2, 2, {0, 0, 8, 8}}, Ranks{2, 3, {0, 4, 4, 4, 8, 8}},
                                         Ranks{1, 4, {0, 2, 0, 2}}, Ranks{1, 3, {0, 1, 2}}),
                         [](const auto& info) {
                           return std::to_string(info.param.ranks) + "x" + std::to_string(info.param.workers) +
                                  (info.param.caches.empty() ? "" : "Caches" + std::to_string(info.index));
                         });

TEST(WorkerTeam, ARanksBarrierWaitsForNoOtherRank) {
  WorkerTeamOptions options = Options(4);
  options.ranks = 2;
  const auto team = WorkerTeam::Create(options);
  ASSERT_TRUE(team) << team.error();
  std::atomic<int> passed{0};
  (*team)->Run([&](int worker) {
    if (worker >= 2) {
      while (passed < 200) std::this_thread::yield();  // the first rank's barriers end meanwhile
    }
    for (int round = 0; round < 100; ++round) {
      (*team)->Barrier();
      if (worker < 2) ++passed;
    }
  });
  EXPECT_EQ(passed, 200);
}

TEST(WorkerTeam, RefusesRanksThatDoNotDivideItsWorkers) {
  WorkerTeamOptions options = Options(3);
  for (const int ranks : {0, 2, 4}) {
    options.ranks = ranks;
    const auto team = WorkerTeam::Create(options);
    ASSERT_FALSE(team);
    EXPECT_THAT(team.error().message(), testing::HasSubstr("3 workers cannot be shared out"));
  }
}

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
  std::vector<int> cpus(2);
  (*team)->Run([&](int worker) { cpus[static_cast<size_t>(worker)] = PinnedCpu(pthread_self()); });
  // Not their order, nor that they differ: one may have lent its core to the other in between.
  EXPECT_THAT(options.cpus, testing::IsSupersetOf(std::set<int>(cpus.begin(), cpus.end())));
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

// Busy threads on every CPU but the first: workers lose their cores, and waiting ones lend theirs.
// Whatever is lent, every worker has one CPU, no two have the same, and no wake-up is lost.
TEST(WorkerTeam, PlacesStayDistinctBesideBusyNeighbors) {
  const WorkerTeamOptions options = Options(static_cast<int>(Topology::Detect()->cpus.size()));
  const auto team = WorkerTeam::Create(options);
  ASSERT_TRUE(team);
  std::atomic<bool> stop{false};
  std::vector<std::thread> neighbors;
  for (size_t i = 1; i < options.cpus.size(); ++i) {
    neighbors.emplace_back([&, cpu = options.cpus[i]] {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(cpu, &set);
      sched_setaffinity(0, sizeof(set), &set);
      while (!stop) {
      }
    });
  }
  std::atomic<int> barriers{0};
  for (int run = 0; run < 20; ++run) {
    std::vector<pthread_t> threads(options.cpus.size());
    (*team)->Run([&](int worker) {
      threads[static_cast<size_t>(worker)] = pthread_self();
      for (int round = 0; round < 100; ++round) {
        ++barriers;
        (*team)->Barrier();
      }
    });
    // The caller has its own mask again, and one of the CPUs is its place in the next Run.
    std::set<int> places;
    for (size_t i = 1; i < threads.size(); ++i) places.insert(PinnedCpu(threads[i]));
    EXPECT_EQ(places.size(), threads.size() - 1);
    EXPECT_THAT(places, testing::IsSubsetOf(options.cpus));
  }
  stop = true;
  for (std::thread& neighbor : neighbors) neighbor.join();
  EXPECT_EQ(barriers, 2000 * static_cast<int>(options.cpus.size()));
}

// Whatever is lent stays on its node, and among CPUs of one kind: with a CPU each, of their own, workers keep their
// places beside the same neighbors.
class LendsNoCoreTo : public testing::TestWithParam<std::vector<int> WorkerTeamOptions::*> {};
INSTANTIATE_TEST_SUITE_P(Another, LendsNoCoreTo, testing::Values(&WorkerTeamOptions::nodes, &WorkerTeamOptions::kinds),
                         [](const auto& info) { return info.index == 0 ? "Node" : "Kind"; });
TEST_P(LendsNoCoreTo, Another) {
  WorkerTeamOptions options = Options(static_cast<int>(Topology::Detect()->cpus.size()));
  if (options.cpus.size() < 2) GTEST_SKIP() << "one CPU has nobody to lend to";
  for (size_t i = 0; i < options.cpus.size(); ++i) (options.*GetParam()).push_back(static_cast<int>(i));
  const auto team = WorkerTeam::Create(options);
  ASSERT_TRUE(team) << team.error();
  std::atomic<bool> stop{false};
  std::thread neighbor([&] {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(options.cpus[1], &set);
    sched_setaffinity(0, sizeof(set), &set);
    while (!stop) {
    }
  });
  std::atomic<int> elsewhere{0};
  for (int run = 0; run < 20; ++run) {
    (*team)->Run([&](int worker) {
      for (int round = 0; round < 100; ++round) {
        (*team)->Barrier();
        if (PinnedCpu(pthread_self()) != options.cpus[static_cast<size_t>(worker)]) ++elsewhere;
      }
    });
  }
  stop = true;
  neighbor.join();
  EXPECT_EQ(elsewhere, 0);
}

TEST(WorkerTeam, RefusesNodesAndKindsOfOtherCpus) {
  for (const auto list : {&WorkerTeamOptions::nodes, &WorkerTeamOptions::kinds}) {
    WorkerTeamOptions options = Options(2);
    options.*list = {0};
    const auto team = WorkerTeam::Create(options);
    ASSERT_FALSE(team);
    EXPECT_EQ(team.error().code(), StatusCode::kInvalidArgument);
  }
}

// The others stand at a barrier that the one who throws never reaches.
TEST(WorkerTeamDeathTest, AnExceptionEndsTheProcessWithItsMessage) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const int thrower : {0, 1, 2}) {
    const auto run = [thrower](bool standard) {
      const auto team = WorkerTeam::Create(Options(3));
      (*team)->Run([&](int worker) {
        (*team)->Barrier();
        if (worker == thrower && standard) throw std::runtime_error("no more paper");
        if (worker == thrower) throw 7;
        (*team)->Barrier();
      });
    };
    const std::string who = "worker " + std::to_string(thrower) + " of the team failed: ";
    EXPECT_EXIT(run(true), testing::KilledBySignal(SIGABRT), who + "no more paper");
    EXPECT_EXIT(run(false), testing::KilledBySignal(SIGABRT), who + "something that is not");
  }
}

TEST(WorkerTeam, WhatIsDoneMeanwhileEnds) {
  WorkerTeamOptions options = Options(2);
  options.spin_iterations = 1 << 20;
  const auto team = WorkerTeam::Create(options);
  ASSERT_TRUE(team);
  int calls = 0, wrong = 0;
  for (int run = 0; run < 50; ++run) {
    std::atomic<bool> late{false};
    (*team)->Run([&](int worker) {
      if (worker == 1) {
        usleep(200);
        late = true;
        return (*team)->Barrier();
      }
      calls = 0;
      (*team)->Barrier([&] { return ++calls < 20; });
      if (!late) ++wrong;
    });
    EXPECT_LE(calls, 20);  // never again once it has returned false
  }
  EXPECT_EQ(wrong, 0);
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
