#include "platform/topology.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "base/split.h"
#include "platform/cgroup.h"
#include "platform/sysfs.h"

namespace tiercel::platform {
namespace {

// The CPUs in the affinity mask and in the cpuset.
std::vector<int> UsableCpus(const std::string& root, const CgroupLimits& limits) {
  const std::string status = ReadTextFile(root + "/proc/self/status").value_or("");
  std::vector<int> mask;
  for (std::string_view line : Split(status, '\n')) {
    constexpr std::string_view kKey = "Cpus_allowed_list:";
    if (line.substr(0, kKey.size()) == kKey) {
      line.remove_prefix(kKey.size());
      mask = ParseCpuList(line);
    }
  }
  if (mask.empty()) {
    mask = ParseCpuList(ReadTextFile(root + "/sys/devices/system/cpu/online").value_or(""));
  }
  if (!limits.cpuset) return mask;
  std::vector<int> both;
  std::set_intersection(mask.begin(), mask.end(), limits.cpuset->begin(), limits.cpuset->end(),
                        std::back_inserter(both));
  // Disjoint sets mean that the group was misread: the kernel keeps the mask within the cpuset.
  return both.empty() ? mask : both;
}

std::vector<Cpu> DescribeCpus(const std::string& root, const std::vector<int>& ids) {
  std::vector<Cpu> cpus;
  for (int id : ids) {
    const std::string folder =
        root + "/sys/devices/system/cpu/cpu" + std::to_string(id) + "/topology/";
    // The lowest of its hardware threads names a core: core_id is unique only within a package,
    // on some machines only within a die.
    const std::vector<int> siblings =
        ParseCpuList(ReadTextFile(folder + "thread_siblings_list").value_or(""));
    Cpu cpu;
    cpu.id = id;
    cpu.core = siblings.empty() ? id : siblings.front();
    cpu.package = static_cast<int>(ReadInt(folder + "physical_package_id").value_or(0));
    cpus.push_back(cpu);
  }
  return cpus;
}

// What Linux tells of a core's speed. Efficient are on Intel's hybrid CPUs those of the PMU cpu_atom beside one of
// cpu_core, on Arm those whose capacity is below the largest. Among either a lower clock makes another kind (AMD's dense
// cores, Intel's of low power): lower by more than the few percent that a maker's favored cores are ahead.
void FindKinds(const std::string& root, std::vector<Cpu>& cpus) {
  constexpr double kSameClock = 0.85;
  struct Speed {
    bool atom = false;
    int64_t capacity = 0, clock = 0;
    bool slow_clock = false;
    auto Order() const { return std::tuple(atom, -capacity, slow_clock); }
  };
  const auto cpus_of = [&](const char* pmu) {
    return ParseCpuList(ReadTextFile(root + "/sys/devices/" + pmu + "/cpus").value_or(""));
  };
  const std::vector<int> fast = cpus_of("cpu_core"), slow = cpus_of("cpu_atom");
  std::vector<Speed> speeds;
  std::map<std::pair<bool, int64_t>, int64_t> highest;  // clock, by atom and capacity
  int64_t most = 0;
  for (const Cpu& cpu : cpus) {
    const std::string folder = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu.id);
    Speed& speed = speeds.emplace_back();
    speed.atom = !fast.empty() && std::binary_search(slow.begin(), slow.end(), cpu.id);
    speed.capacity = ReadInt(folder + "/cpu_capacity").value_or(0);
    speed.clock = ReadInt(folder + "/cpufreq/cpuinfo_max_freq").value_or(0);
    most = std::max(most, speed.capacity);
    int64_t& clock = highest[{speed.atom, speed.capacity}];
    clock = std::max(clock, speed.clock);
  }
  std::set<std::tuple<bool, int64_t, bool>> kinds;
  for (Speed& speed : speeds) {
    const auto clock = static_cast<double>(highest[{speed.atom, speed.capacity}]);
    speed.slow_clock = speed.clock > 0 && static_cast<double>(speed.clock) < kSameClock * clock;
    kinds.insert(speed.Order());
  }
  for (size_t i = 0; i < cpus.size(); ++i) {
    const Speed& speed = speeds[i];
    cpus[i].efficient = speed.atom || (speed.capacity > 0 && speed.capacity < most);
    cpus[i].kind = static_cast<int>(std::distance(kinds.begin(), kinds.find(speed.Order())));
  }
}

int AssignNumaNodes(const std::string& root, std::vector<Cpu>& cpus) {
  const std::string folder = root + "/sys/devices/system/node/";
  const std::vector<int> nodes = ParseCpuList(ReadTextFile(folder + "online").value_or(""));
  for (int node : nodes) {
    const std::string path = folder + "node" + std::to_string(node) + "/cpulist";
    const std::vector<int> members = ParseCpuList(ReadTextFile(path).value_or(""));
    for (Cpu& cpu : cpus) {
      if (std::binary_search(members.begin(), members.end(), cpu.id)) cpu.numa_node = node;
    }
  }
  std::set<int> used;
  for (const Cpu& cpu : cpus) used.insert(cpu.numa_node);
  return static_cast<int>(std::max<size_t>(1, used.size()));
}

// One file for each cache: it lists all that share it.
void AssignCaches(const std::string& root, std::vector<Cpu>& cpus) {
  std::set<int> known;
  for (Cpu& cpu : cpus) {
    if (known.contains(cpu.id)) continue;
    const std::string path = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu.id) +
                             "/cache/index3/shared_cpu_list";
    const std::vector<int> members = ParseCpuList(ReadTextFile(path).value_or(""));
    if (members.empty()) continue;
    for (Cpu& other : cpus) {
      if (!std::binary_search(members.begin(), members.end(), other.id)) continue;
      other.cache = members.front();
      known.insert(other.id);
    }
  }
}

int64_t ParseCacheSize(std::string_view text) {  // "48K", "2M"
  const int64_t number = ParseInt(text).value_or(0);
  if (text.ends_with('K')) return number << 10;
  if (text.ends_with('M')) return number << 20;
  return number;
}

void ReadCaches(const std::string& root, int cpu, Topology& topology) {
  constexpr int kMaxCaches = 16;
  for (int i = 0; i < kMaxCaches; ++i) {
    const std::string folder = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                               "/cache/index" + std::to_string(i) + "/";
    const std::optional<int64_t> level = ReadInt(folder + "level");
    if (!level) return;
    const int64_t size = ParseCacheSize(ReadTextFile(folder + "size").value_or(""));
    const std::string type = ReadTextFile(folder + "type").value_or("");
    if (*level == 1 && type == "Data") topology.l1d_bytes = size;
    if (*level == 2) topology.l2_bytes = size;
    if (*level == 3) topology.l3_bytes = size;
  }
}

void ReadMemory(const std::string& root, const CgroupLimits& limits, Topology& topology) {
  const std::string meminfo = ReadTextFile(root + "/proc/meminfo").value_or("");
  constexpr int64_t kKib = 1024;
  topology.memory_total = FindIntField(meminfo, "MemTotal:").value_or(0) * kKib;
  topology.memory_available = FindIntField(meminfo, "MemAvailable:").value_or(0) * kKib;
  if (limits.memory_limit) {
    topology.memory_total = std::min(topology.memory_total, *limits.memory_limit);
  }
  if (limits.memory_available) {
    topology.memory_available = std::min(topology.memory_available, *limits.memory_available);
  }
}

void ReadHugePages(const std::string& root, Topology& topology) {
  const std::string modes =  // "always [madvise] never"
      ReadTextFile(root + "/sys/kernel/mm/transparent_hugepage/enabled").value_or("");
  const size_t open = modes.find('[');
  const size_t close = modes.find(']');
  topology.huge_pages = open < close && close != std::string::npos
                            ? modes.substr(open + 1, close - open - 1)
                            : "never";
  const std::string folder = root + "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  const int64_t free = ReadInt(folder + "free_hugepages").value_or(0);
  const int64_t promised = ReadInt(folder + "resv_hugepages").value_or(0);
  topology.explicit_huge_pages_free = std::max<int64_t>(0, free - promised);
}

std::vector<int> OnePerCore(const std::vector<Cpu>& cpus, bool efficient_too) {
  std::vector<int> ids;
  std::set<int> cores;
  for (const Cpu& cpu : cpus) {
    if (cpu.efficient && !efficient_too) continue;
    if (cores.insert(cpu.core).second) ids.push_back(cpu.id);
  }
  return ids;
}

std::vector<int> FieldOf(const std::vector<Cpu>& cpus, const std::vector<int>& ids, int Cpu::*field) {
  std::vector<int> values;
  for (const int id : ids) {
    const auto cpu = std::find_if(cpus.begin(), cpus.end(), [id](const Cpu& c) { return c.id == id; });
    values.push_back(cpu != cpus.end() ? (*cpu).*field : 0);
  }
  return values;
}

}  // namespace

Expected<Topology> Topology::Detect(const std::string& root) {
  const CgroupLimits limits = ReadCgroupLimits(root);
  const std::vector<int> ids = UsableCpus(root, limits);
  if (ids.empty()) {
    return Unexpected(FailedPrecondition(
        "no usable CPU found in {0}/proc/self/status or {0}/sys/devices/system/cpu/online; are "
        "/proc and /sys mounted?",
        root));
  }
  Topology topology;
  topology.cpus = DescribeCpus(root, ids);
  FindKinds(root, topology.cpus);
  topology.numa_nodes = AssignNumaNodes(root, topology.cpus);
  AssignCaches(root, topology.cpus);
  topology.cpu_quota = limits.cpu_quota;
  ReadMemory(root, limits, topology);
  ReadCaches(root, ids.front(), topology);
  ReadHugePages(root, topology);
  return topology;
}

// Of the fast cores; of all where there are only efficient ones.
std::vector<int> Topology::Cores() const {
  const bool only_efficient =
      std::all_of(cpus.begin(), cpus.end(), [](const Cpu& cpu) { return cpu.efficient; });
  return OnePerCore(cpus, only_efficient);
}

std::vector<int> Topology::AllCores() const {
  std::vector<int> ids = OnePerCore(cpus, true);
  std::stable_sort(ids.begin(), ids.end(), [this](int a, int b) { return KindsOf({a}) < KindsOf({b}); });
  return ids;
}

std::vector<int> Topology::WorkerCpus(int limit) const {
  size_t most = cpus.size();
  if (cpu_quota > 0) {
    most = std::min(most, std::max<size_t>(1, static_cast<size_t>(std::ceil(cpu_quota))));
  }
  if (limit > 0) most = std::min(most, static_cast<size_t>(limit));
  std::vector<int> workers = Cores();
  if (workers.size() > most) workers.resize(most);
  return workers;
}

std::vector<int> Topology::NodesOf(const std::vector<int>& ids) const {
  return FieldOf(cpus, ids, &Cpu::numa_node);
}

std::vector<int> Topology::ByNodeAndCache(std::vector<int> ids) const {
  std::stable_sort(ids.begin(), ids.end(), [this](int a, int b) {
    return std::pair(NodesOf({a}), CachesOf({a})) < std::pair(NodesOf({b}), CachesOf({b}));
  });
  return ids;
}

std::vector<int> Topology::CachesOf(const std::vector<int>& ids) const {
  return FieldOf(cpus, ids, &Cpu::cache);
}

std::vector<int> Topology::KindsOf(const std::vector<int>& ids) const {
  return FieldOf(cpus, ids, &Cpu::kind);
}

int OnlineCpus() { return static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)); }

}  // namespace tiercel::platform
