// What part of the machine this process may use: cores, caches, NUMA nodes, memory. Follows the
// affinity mask and the cgroup (v1 and v2) limits, which are what a container or taskset gives.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace tiercel::platform {

struct Cpu {
  int id = 0;    // the OS's number
  int core = 0;  // physical core, unique over packages
  int package = 0;
  int numa_node = 0;
  int cache = 0;  // its last-level cache: the lowest CPU that shares it, or 0 where that is not told
  bool efficient = false;  // an efficiency core beside faster ones
  int kind = 0;  // CPUs that Linux tells apart by their speed are of different kinds, the fastest of 0
};

struct Topology {
  std::vector<Cpu> cpus;     // those in the affinity mask (and cpuset), ascending id
  double cpu_quota = 0;      // cgroup CPU quota in cores, 0: none
  int64_t memory_total = 0;  // bytes: min(MemTotal, every cgroup limit on the way up)
  int64_t memory_available =
      0;  // bytes now: MemAvailable capped by limit − usage (page cache counts as free)
  int64_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;
  int numa_nodes = 1;
  std::string huge_pages;                // THP mode: "always", "madvise", "never"
  int64_t explicit_huge_pages_free = 0;  // 2 MiB pages reserved and free

  // `root` prefixes /proc and /sys: tests point it at a folder of recorded files.
  static Expected<Topology> Detect(const std::string& root = "");

  // One CPU per physical core. Efficiency cores are left out where there are others: several teams, or one that is not
  // pinned, have equal shares and wait for the slowest, and two cores at a third to a half of the speed would cost more
  // than they bring.
  std::vector<int> Cores() const;
  // The same with them, the fastest kind first.
  std::vector<int> AllCores() const;

  // The first of Cores(), at most ceil(cpu_quota) and at most `limit` (0: no limit).
  std::vector<int> WorkerCpus(int limit = 0) const;

  // The NUMA node of each of `ids`.
  std::vector<int> NodesOf(const std::vector<int>& ids) const;

  // `ids` in the order of their nodes, and within a node of their caches; else as they are.
  std::vector<int> ByNodeAndCache(std::vector<int> ids) const;

  // The last-level cache of each of `ids`.
  std::vector<int> CachesOf(const std::vector<int>& ids) const;

  // The kind of each of `ids`.
  std::vector<int> KindsOf(const std::vector<int>& ids) const;
};

// Of the machine, whatever this process may use.
int OnlineCpus();

}  // namespace tiercel::platform
