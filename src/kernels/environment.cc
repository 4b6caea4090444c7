#include "kernels/environment.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "kernels/registry.h"

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

std::string Join(const std::vector<int>& numbers) {
  std::string text;
  for (int n : numbers) text += (text.empty() ? "" : ",") + std::to_string(n);
  return text;
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

}  // namespace

Expected<std::unique_ptr<Environment>> Environment::Create(const EnvironmentOptions& options) {
  auto env = std::make_unique<Environment>();
  env->cpu = platform::CpuFeatures::Detect();
  ASSIGN_OR_RETURN(env->topology, platform::Topology::Detect());
  const std::string isa =
      options.isa.empty() ? std::string(Variable("TIERCEL_CPU_ISA")) : options.isa;
  const std::vector<Peak> peaks = isa.empty() ? MeasurePeaks(env->cpu) : std::vector<Peak>{};
  ASSIGN_OR_RETURN(env->kernels, SelectKernels(env->cpu, isa, peaks));
  if (isa.empty() && !env->cpu.avx2) {
    LOG_WARNING("this CPU ({}) has no AVX2 with FMA: running the scalar reference kernels, which "
                "are right but very slow",
                env->cpu.model_name);
  }

  // OMP_NUM_THREADS only lowers; an explicit number of threads may exceed the cores (tests do),
  // then CPUs are shared and pinning would only hurt.
  const int limit = options.threads > 0 ? options.threads : OmpNumThreads();
  platform::WorkerTeamOptions team;
  team.cpus = env->topology.WorkerCpus(limit);
  if (team.cpus.empty()) return Unexpected(Internal("topology: found no usable CPU"));
  team.ranks = options.ranks;
  // A rank's workers lie together: on one node, within one cache, as far as that goes.
  if (team.ranks > 1) team.cpus = env->topology.ByNodeAndCache(team.cpus);
  const size_t cores = team.cpus.size();
  const auto ranks = static_cast<size_t>(team.ranks);
  team.pin = options.pin && env->topology.ShouldPin(cores);
  const size_t wanted = std::max({ranks, cores / ranks * ranks, static_cast<size_t>(options.threads)});
  if (wanted < cores) team.cpus.resize(wanted);
  for (size_t i = 0; team.cpus.size() < wanted; ++i) {
    team.cpus.push_back(team.cpus[i % cores]);
    team.pin = false;
  }
  team.nodes = env->topology.NodesOf(team.cpus);
  team.caches = env->topology.CachesOf(team.cpus);
  ASSIGN_OR_RETURN(env->team, platform::WorkerTeam::Create(team));
  env->team->Run([&](int) { env->kernels->init_thread(); });

  if (team.ranks > 1) {
    LOG_INFO("{} ranks of {} workers", team.ranks, env->team->size() / team.ranks);
    if (wanted > cores) {
      LOG_WARNING("{} ranks on {} cores: workers share cores, and wait for each other", team.ranks, cores);
    } else if (wanted < cores) {
      LOG_WARNING("{} of {} cores are used: as many for each of {} ranks", wanted, cores, team.ranks);
    }
  }
  LOG_INFO("CPU kernels: {}{}; {} workers on CPUs {}{}; huge pages: THP {}, {} reserved",
           env->kernels->detail, Describe(peaks), env->team->size(), Join(team.cpus),
           team.pin ? "" : " (not pinned)",
           env->topology.huge_pages, env->topology.explicit_huge_pages_free);
  return env;
}

}  // namespace tiercel::kernels
