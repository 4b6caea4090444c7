#include "kernels/environment.h"

#include <charconv>
#include <cstdlib>
#include <set>
#include <string_view>

#include "base/check.h"
#include "base/log.h"
#include "kernels/architecture.h"
#include "kernels/registry.h"
#include "kernels/worker_shares.h"

namespace tiercel::kernels {
namespace {

std::string_view Variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// OMP_NUM_THREADS' first number ("4" or "4,2"), 0 when it is unset. An unreadable value is no
// reason not to start: it is named and ignored.
int OmpNumThreads() {
  const std::string_view text = Variable("OMP_NUM_THREADS");
  if (text.empty()) return 0;
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  const bool whole = end == text.data() + text.size() || *end == ',';
  if (error == std::errc() && whole && threads > 0) return threads;
  LOG_WARNING("OMP_NUM_THREADS: found \"{}\", expected a positive number; ignored", text);
  return 0;
}

// " (GFLOP/s of a core: avx512 219, amx 1750)", or nothing where nothing was measured.
std::string Describe(const std::vector<Peak>& peaks) {
  std::string text;
  for (const Peak& peak : peaks) {
    text += fmt::format("{}{} {:.0f}", text.empty() ? " (GFLOP/s of a core: " : ", ",
                        peak.kernels->isa, peak.gflop_per_s);
  }
  return text.empty() ? text : text + ")";
}

// Whether the neighbors have to share out the CPUs among them: nobody (mpirun, a container) has done so by affinity
// masks.
bool DividesCpus(const platform::Topology& topology, const EnvironmentOptions& options) {
  return options.neighbors.count > 1 && options.binding.kind == platform::CpuBinding::Kind::kAuto &&
         std::ssize(topology.cpus) >= platform::OnlineCpus();
}

// The team of one engine: its ranks' workers one after the other.
Expected<std::unique_ptr<Environment>> MakeOne(const EnvironmentOptions& options,
                                               const Environment& machine,
                                               const platform::Placement& placement, int engine) {
  auto env = std::make_unique<Environment>();
  env->cpu = machine.cpu;
  env->topology = machine.topology;
  env->kernels = machine.kernels;
  env->engines = options.engines * options.neighbors.count;
  platform::WorkerTeamOptions team;
  team.ranks = options.ranks;
  team.pin = placement.pin;
  for (int rank = 0; rank < options.ranks; ++rank) {
    const std::vector<int>& cpus = placement.ranks[static_cast<size_t>(engine * options.ranks + rank)];
    team.cpus.insert(team.cpus.end(), cpus.begin(), cpus.end());
  }
  team.nodes = env->nodes = env->topology.NodesOf(team.cpus);
  team.caches = env->topology.CachesOf(team.cpus);
  team.kinds = env->topology.KindsOf(team.cpus);
  const std::string_view by_hand = Variable("TIERCEL_CPU_SHARES");
  if (!by_hand.empty()) {
    ASSIGN_OR_RETURN(env->shares, ParseShares(by_hand, static_cast<int>(team.cpus.size())));
    team.kinds = env->shares;
  }
  ASSIGN_OR_RETURN(env->team, platform::WorkerTeam::Create(team));
  env->team->Run([&](int) { env->kernels->init_thread(); });
  const bool alike = std::set<int>(team.kinds.begin(), team.kinds.end()).size() <= 1;
  if (by_hand.empty() && placement.pin && !alike) {
    env->shares = MeasureShares(*env->kernels, team.kinds, env->team.get());
  }
  if (!env->shares.empty()) {
    LOG_INFO("work is divided by {}, workers × share: {}", by_hand.empty() ? "speed" : "TIERCEL_CPU_SHARES",
             DescribeShares(env->shares, options.ranks));
  }
  return env;
}

// "CPUs 0-3 of node 0".
std::string DescribePlace(const platform::Topology& topology, const std::vector<int>& cpus) {
  const bool one = topology.numa_nodes == 1;
  return fmt::format("CPUs {}{}", platform::DescribeCpus(cpus),
                     one ? "" : " of node " + platform::DescribeCpus(topology.NodesOf(cpus)));
}

// Who is where.
void LogPlacement(const EnvironmentOptions& options, const Environment& machine,
                  const std::vector<Peak>& peaks, const platform::Placement& placement) {
  const size_t ranks = placement.ranks.size();
  std::vector<int> all;
  for (size_t i = 0; i < ranks; ++i) {
    const std::vector<int>& cpus = placement.ranks[i];
    all.insert(all.end(), cpus.begin(), cpus.end());
    if (ranks == 1) continue;
    const auto per_engine = static_cast<size_t>(options.ranks);
    LOG_INFO("{}{}{}: {}", options.engines > 1 ? fmt::format("engine {}", i / per_engine) : "",
             options.engines > 1 && per_engine > 1 ? ", " : "",
             per_engine > 1 ? fmt::format("rank {}", i % per_engine) : "",
             DescribePlace(machine.topology, cpus));
  }
  if (placement.shared && ranks > 1) {
    LOG_WARNING("{} ranks share cores, and wait for each other", ranks);
  }
  if (placement.idle > 0) {
    LOG_WARNING("{} cores are idle: {} ranks get {} each, none of another node", placement.idle, ranks,
                placement.ranks[0].size());
  }
  LOG_INFO("CPU kernels: {}{}; {} workers on {}{}; huge pages: THP {}, {} reserved",
           machine.kernels->detail, Describe(peaks), all.size(),
           DescribePlace(machine.topology, all), placement.pin ? "" : " (not pinned)",
           machine.topology.huge_pages, machine.topology.explicit_huge_pages_free);
}

}  // namespace

Expected<platform::Placement> PlaceRanks(const platform::Topology& topology,
                                         const EnvironmentOptions& options) {
  const int processes = DividesCpus(topology, options) ? options.neighbors.count : 1;
  platform::PlacementOptions place;
  place.engines = options.engines * processes;
  place.ranks = options.ranks;
  place.threads = options.threads;
  // It only lowers; an explicit number of threads may exceed the cores (tests do).
  place.most = options.threads > 0 ? 0 : OmpNumThreads();
  place.reserved = options.reserved_cpus;
  place.binding = options.binding;
  ASSIGN_OR_RETURN(platform::Placement placement, platform::Place(topology, place));
  placement.pin = placement.pin && options.pin;
  if (processes > 1) {
    const auto own = std::ssize(placement.ranks) / processes;
    const auto begin = placement.ranks.begin() + options.neighbors.index * own;
    placement.ranks = {begin, begin + own};
  }
  return placement;
}

Expected<Environments> CreateEnvironments(const EnvironmentOptions& options) {
  Environment machine;
  machine.cpu = platform::CpuFeatures::Detect();
  ASSIGN_OR_RETURN(machine.topology, platform::Topology::Detect());
  ASSIGN_OR_RETURN(const platform::Placement placement, PlaceRanks(machine.topology, options));
  const std::string isa =
      options.isa.empty() ? std::string(Variable("TIERCEL_CPU_ISA")) : options.isa;
  const std::vector<Peak> peaks = isa.empty() ? MachinePeaks() : std::vector<Peak>{};
  ASSIGN_OR_RETURN(machine.kernels, SelectKernels(machine.cpu, isa, peaks));
  if (isa.empty() && VectorKernels(machine.cpu).empty()) {
    LOG_WARNING("this CPU ({}) has no AVX2 with FMA: running the scalar reference kernels, which "
                "are right but very slow",
                machine.cpu.model_name);
  }
  LogPlacement(options, machine, peaks, placement);
  Environments environments;
  for (int engine = 0; engine < options.engines; ++engine) {
    ASSIGN_OR_RETURN(auto environment, MakeOne(options, machine, placement, engine));
    environments.push_back(std::move(environment));
  }
  std::set<std::vector<int>> nodes;
  for (const auto& each : environments) nodes.insert(each->nodes);
  for (const auto& each : environments) each->weight_copies = static_cast<int>(nodes.size());
  return environments;
}

Expected<std::unique_ptr<Environment>> Environment::Create(const EnvironmentOptions& options) {
  CHECK_EQ(options.engines, 1);
  ASSIGN_OR_RETURN(Environments environments, CreateEnvironments(options));
  return std::move(environments[0]);
}

}  // namespace tiercel::kernels
