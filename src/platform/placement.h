// Placement: which CPUs the workers of each rank run on, where several ranks, of one engine or of
// several, share the machine. Pure logic: topology and wishes in, CPUs out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "platform/topology.h"

namespace tiercel::platform {

// What the user says of it.
struct CpuBinding {
  enum class Kind {
    kAuto,   // as Place thinks best, pinned
    kNone,   // as many workers, but none is pinned
    kLists,  // these CPUs
    kNodes,  // the cores of these nodes
  };
  Kind kind = Kind::kAuto;
  std::vector<std::vector<int>> lists;  // of kLists: of each rank, a worker for each CPU
  std::vector<int> nodes;               // of kNodes: of each rank
  std::string source;                   // the variable or flag that says so, for messages
};

// "auto"; "nobind" (or "all", its older name); "0-31|32-63", a list for each rank. "" is auto.
Expected<CpuBinding> ParseCpuBinding(std::string_view text, const std::string& source);
// "0-3,8": numbers and ranges, each CPU once. Unlike ParseCpuList it refuses what it cannot read.
Expected<std::vector<int>> ParseCpus(std::string_view text, const std::string& source);

struct PlacementOptions {
  int engines = 1;
  int ranks = 1;     // of each engine
  int threads = 0;   // workers in all, which may exceed the cores; 0: as many as there is room for
  int most = 0;      // workers of a rank at most (OMP_NUM_THREADS); 0: no limit
  int reserved = 0;  // cores of each rank that are left to others (VLLM_CPU_NUM_OF_RESERVED_CPU)
  CpuBinding binding;
};

struct Placement {
  // engines · ranks, engine by engine: the CPU of each worker. All ranks have as many workers.
  std::vector<std::vector<int>> ranks;
  bool pin = false;
  bool shared = false;  // workers share cores, and wait for each other
  int idle = 0;         // cores without a worker, though nothing limits their number
};

// Unless CPUs are named: a rank has as many cores as the others, none of another node than its first,
// as far as there are as many cores as ranks. With as many ranks as nodes that is a node for each; with
// fewer each has as many whole nodes as the others; with more they share nodes. Cores that this leaves
// over stay idle. A rank's cores lie together: in the order of nodes, and within a node of caches. Efficiency cores beside
// faster ones have workers where one rank, pinned, has all of the machine's.
//
// Pinned, unless a CPU quota or `most` limits the workers (each process that is limited so would choose
// the same cores, and leave the others idle), or workers share cores.
Expected<Placement> Place(const Topology& topology, const PlacementOptions& options);

// "0-3,8".
std::string DescribeCpus(std::vector<int> cpus);

}  // namespace tiercel::platform
