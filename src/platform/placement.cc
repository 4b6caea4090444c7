#include "platform/placement.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "base/split.h"
#include "platform/sysfs.h"
#include "platform/worker_team.h"

namespace tiercel::platform {
namespace {

constexpr std::string_view kBlanks = " \t";

std::optional<int> ParseCpu(std::string_view text) {
  text = Trimmed(text, kBlanks);
  int cpu = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpu);
  if (error != std::errc() || end != text.data() + text.size() || cpu < 0 || cpu > kMaxCpuId) {
    return std::nullopt;
  }
  return cpu;
}

// How messages call the lists' expected number.
std::string Ranks(const PlacementOptions& o) {
  return fmt::format("{} (one for each rank: tensor parallel size {}, data parallel size {})",
                     o.engines * o.ranks, o.ranks, o.engines);
}

// Cores that are given out as one: those of a node, or of several where there are fewer ranks.
using Unit = std::vector<int>;

std::vector<Unit> UnitsOf(const Topology& topology, const std::vector<int>& cores, int ranks) {
  std::vector<Unit> nodes;
  int last = -1;
  for (const int cpu : cores) {
    const int node = topology.NodesOf({cpu}).front();
    if (nodes.empty() || node != last) nodes.emplace_back();
    nodes.back().push_back(cpu);
    last = node;
  }
  const size_t each = std::max<size_t>(1, nodes.size() / static_cast<size_t>(ranks));
  std::vector<Unit> units;
  for (size_t i = 0; i < nodes.size() / each * each; ++i) {
    if (i % each == 0) units.emplace_back();
    units.back().insert(units.back().end(), nodes[i].begin(), nodes[i].end());
  }
  return units;
}

// The most workers that each of `ranks` may have without leaving its unit.
int LargestShare(const std::vector<Unit>& units, int ranks) {
  size_t share = 0;
  for (const Unit& unit : units) share = std::max(share, unit.size());
  for (; share > 1; --share) {
    size_t room = 0;
    for (const Unit& unit : units) room += unit.size() / share;
    if (room >= static_cast<size_t>(ranks)) break;
  }
  return static_cast<int>(share);
}

// `share` cores of one unit for each rank: spread over the units, and in their order.
std::vector<std::vector<int>> ShareOut(const std::vector<Unit>& units, int ranks, int share) {
  std::vector<int> count(units.size());
  for (int r = 0; r < ranks; ++r) {
    size_t best = units.size();
    for (size_t u = 0; u < units.size(); ++u) {
      const bool has_room = static_cast<size_t>((count[u] + 1) * share) <= units[u].size();
      if (has_room && (best == units.size() || count[u] < count[best])) best = u;
    }
    ++count[best];
  }
  std::vector<std::vector<int>> places;
  for (size_t u = 0; u < units.size(); ++u) {
    // What does not divide is left over between the ranks' cores, not at the end alone: the caches too
    // are then divided as evenly as can be.
    for (int i = 0; i < count[u]; ++i) {
      const auto first = units[u].begin() + std::ssize(units[u]) * i / count[u];
      places.emplace_back(first, first + share);
    }
  }
  return places;
}

Status CheckLists(const Topology& topology, const PlacementOptions& o) {
  const CpuBinding& binding = o.binding;
  if (std::ssize(binding.lists) != o.engines * o.ranks) {
    return InvalidArgument("{}: found {} lists of CPUs, expected {}", binding.source,
                           binding.lists.size(), Ranks(o));
  }
  std::set<int> allowed, used;
  for (const Cpu& cpu : topology.cpus) allowed.insert(cpu.id);
  for (const std::vector<int>& list : binding.lists) {
    if (list.size() != binding.lists[0].size()) {
      return InvalidArgument("{}: found lists of {} and of {} CPUs, expected the same number in each",
                             binding.source, binding.lists[0].size(), list.size());
    }
    for (const int cpu : list) {
      if (!allowed.contains(cpu)) {
        return InvalidArgument("{}: found CPU {}, expected some of those that this process may use: {}",
                               binding.source, cpu, DescribeCpus({allowed.begin(), allowed.end()}));
      }
      if (!used.insert(cpu).second) {
        return InvalidArgument("{}: found CPU {} in two lists, expected it in one", binding.source, cpu);
      }
    }
  }
  return OkStatus();
}

// Ranks of one node divide its cores.
Expected<std::vector<std::vector<int>>> PlaceOnNodes(const Topology& topology,
                                                     const std::vector<int>& cores,
                                                     const PlacementOptions& o) {
  const CpuBinding& binding = o.binding;
  if (std::ssize(binding.nodes) != o.engines * o.ranks) {
    return Unexpected(InvalidArgument("{}: found {} nodes, expected {}", binding.source,
                                      binding.nodes.size(), Ranks(o)));
  }
  const std::vector<int> node_of = topology.NodesOf(cores);
  const std::set<int> known(node_of.begin(), node_of.end());
  const auto cores_of = [&](int node) {
    std::vector<int> own;
    for (size_t i = 0; i < cores.size(); ++i) {
      if (node_of[i] == node) own.push_back(cores[i]);
    }
    return own;
  };
  const auto ranks_of = [&](int node) {
    return std::count(binding.nodes.begin(), binding.nodes.end(), node);
  };
  std::ptrdiff_t share = kMaxCpuId;
  for (const int node : binding.nodes) {
    if (!known.contains(node)) {
      return Unexpected(InvalidArgument("{}: found node {}, expected some of those with CPUs that this "
                                        "process may use: {}", binding.source, node,
                                        DescribeCpus({known.begin(), known.end()})));
    }
    share = std::min(share, std::ssize(cores_of(node)) / ranks_of(node));
    if (share == 0) {
      return Unexpected(InvalidArgument("{}: found node {} for {} ranks, expected at most {}, its cores",
                                        binding.source, node, ranks_of(node), cores_of(node).size()));
    }
  }
  std::vector<std::vector<int>> places;
  for (size_t r = 0; r < binding.nodes.size(); ++r) {
    const auto own = cores_of(binding.nodes[r]);
    const auto before = std::count(binding.nodes.begin(), binding.nodes.begin() + static_cast<std::ptrdiff_t>(r),
                                   binding.nodes[r]);
    const auto first = own.begin() + before * share;
    places.emplace_back(first, first + share);
  }
  return places;
}

// Fewer cores than ranks, or more workers than cores: engines keep apart, ranks and workers share.
std::vector<std::vector<int>> PlaceShared(const std::vector<int>& cores, const PlacementOptions& o,
                                          int workers) {
  const auto per_engine = std::max<size_t>(1, cores.size() / static_cast<size_t>(o.engines));
  std::vector<std::vector<int>> places;
  for (int e = 0; e < o.engines; ++e) {
    const size_t first = static_cast<size_t>(e) * per_engine;
    size_t next = 0;
    for (int r = 0; r < o.ranks; ++r) {
      places.emplace_back();
      for (int w = 0; w < workers; ++w) {
        places.back().push_back(cores[(first + next++ % per_engine) % cores.size()]);
      }
    }
  }
  return places;
}

Status Reserve(const PlacementOptions& o, std::vector<std::vector<int>>* places) {
  const auto share = std::ssize(places->front());
  if (o.reserved >= share) {
    return InvalidArgument("VLLM_CPU_NUM_OF_RESERVED_CPU: found {}, expected at most {}: each of {} ranks "
                           "has {} cores", o.reserved, share - 1, places->size(), share);
  }
  for (std::vector<int>& cpus : *places) cpus.resize(static_cast<size_t>(share - o.reserved));
  return OkStatus();
}

// Efficiency cores get workers where one pinned team has them all: its work is divided by speed.
bool TakesAllCores(const Topology& topology, const PlacementOptions& o) {
  const auto all = static_cast<double>(topology.AllCores().size());
  const auto allows = [&](double limit) { return limit == 0 || limit >= all; };
  return o.engines * o.ranks == 1 && o.binding.kind == CpuBinding::Kind::kAuto && allows(o.threads) &&
         allows(o.most) && allows(topology.cpu_quota);
}

}  // namespace

Expected<std::vector<int>> ParseCpus(std::string_view text, const std::string& source) {
  std::vector<int> cpus;
  for (const std::string_view part : Split(text, ',')) {
    const size_t dash = part.find('-');
    const std::optional<int> first = ParseCpu(part.substr(0, dash));
    const std::optional<int> last =
        dash == std::string_view::npos ? first : ParseCpu(part.substr(dash + 1));
    if (!first || !last || *first > *last) {
      return Unexpected(InvalidArgument("{}: found '{}', expected CPUs as in 0-3,8", source,
                                        text.substr(0, 64)));
    }
    for (int cpu = *first; cpu <= *last; ++cpu) {
      if (std::find(cpus.begin(), cpus.end(), cpu) != cpus.end()) {
        return Unexpected(InvalidArgument("{}: found CPU {} twice in '{}', expected it once", source, cpu,
                                          text.substr(0, 64)));
      }
      if (cpus.size() == kMaxWorkers) {
        return Unexpected(InvalidArgument("{}: found more than {} CPUs in a list, expected fewer", source,
                                          kMaxWorkers));
      }
      cpus.push_back(cpu);
    }
  }
  return cpus;
}

Expected<CpuBinding> ParseCpuBinding(std::string_view text, const std::string& source) {
  CpuBinding binding;
  binding.source = source;
  text = Trimmed(text, kBlanks);
  if (text.empty() || text == "auto") return binding;
  if (text == "nobind" || text == "all") {
    binding.kind = CpuBinding::Kind::kNone;
    return binding;
  }
  binding.kind = CpuBinding::Kind::kLists;
  size_t total = 0;
  for (const std::string_view list : Split(text, '|')) {
    auto cpus = ParseCpus(list, source);
    if (!cpus) {
      return Unexpected(InvalidArgument("{} (or auto, nobind, lists divided by |: 0-31|32-63)",
                                        cpus.error().message()));
    }
    total += cpus->size();
    if (total > kMaxCpuId) {
      return Unexpected(InvalidArgument("{}: found more than {} CPUs in all, expected each once", source,
                                        kMaxCpuId));
    }
    binding.lists.push_back(std::move(*cpus));
  }
  return binding;
}

Expected<Placement> Place(const Topology& topology, const PlacementOptions& o) {
  Placement placement;
  if (o.binding.kind == CpuBinding::Kind::kLists) {
    RETURN_IF_ERROR(CheckLists(topology, o));
    placement.ranks = o.binding.lists;
    placement.pin = true;
    return placement;
  }
  const bool all = TakesAllCores(topology, o);
  const std::vector<int> cores = topology.ByNodeAndCache(all ? topology.AllCores() : topology.Cores());
  if (cores.empty()) return Unexpected(Internal("topology: found no usable CPU"));
  if (o.binding.kind == CpuBinding::Kind::kNodes) {
    ASSIGN_OR_RETURN(placement.ranks, PlaceOnNodes(topology, cores, o));
    RETURN_IF_ERROR(Reserve(o, &placement.ranks));
    placement.pin = true;
    return placement;
  }

  const int quota = static_cast<int>(all ? cores.size() : topology.WorkerCpus().size());
  const int ranks = o.engines * o.ranks;
  if (o.engines > quota) {
    return Unexpected(InvalidArgument("argument --data-parallel-size: found {} engines, expected at most {}: "
                                      "the cores that this process may use", o.engines, quota));
  }
  const std::vector<Unit> units = UnitsOf(topology, cores, ranks);
  int share = LargestShare(units, ranks);
  placement.shared = ranks > quota || o.threads > static_cast<int>(cores.size());
  if (placement.shared) {
    placement.ranks = PlaceShared(cores, o, std::max(1, o.threads / ranks));
    return placement;
  }
  bool limited = quota < static_cast<int>(cores.size());
  const int threads = o.threads > 0 ? std::max(1, o.threads / ranks) : 0;
  for (const int limit : {quota / ranks, o.most, threads}) {
    if (limit == 0 || limit >= share) continue;
    share = limit;
    limited = true;
  }
  placement.ranks = ShareOut(units, ranks, share);
  RETURN_IF_ERROR(Reserve(o, &placement.ranks));
  placement.pin = !limited && o.binding.kind == CpuBinding::Kind::kAuto;
  if (!limited) placement.idle = static_cast<int>(cores.size()) - ranks * share;
  return placement;
}

std::string DescribeCpus(std::vector<int> cpus) {
  std::sort(cpus.begin(), cpus.end());
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t end = i + 1;
    while (end < cpus.size() && cpus[end] <= cpus[end - 1] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ",", cpus[i]);
    if (cpus[end - 1] > cpus[i]) text += fmt::format("-{}", cpus[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace tiercel::platform
