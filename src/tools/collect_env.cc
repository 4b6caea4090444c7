// tiercel collect-env: what this build and this machine offer, for bug reports.
#include <sys/utsname.h>

#include <cstdio>
#include <set>
#include <string>

#include "base/log.h"
#include "comm/mpi_transport.h"
#include "kernels/environment.h"
#include "kernels/registry.h"
#include "kernels/worker_shares.h"
#include "options/env_vars.h"
#include "platform/cpu_features.h"
#include "platform/placement.h"
#include "platform/topology.h"
#include "serving/parallel_config.h"
#include "serving/progress_bar.h"
#include "serving/version.h"
#include "tools/command.h"
#include "tools/commands.h"

namespace tiercel::tools {
namespace {

constexpr CommandHelp kCollectEnvHelp = {"tiercel collect-env",
                               "Shows what this build and this machine offer, for reports.", ""};

const OptionTable& CollectEnvTable() {
  static const OptionTable table(std::vector<OptionGroup>{{"options", "None.", {}}});
  return table;
}

void Line(std::string_view name, const std::string& value) {
  std::fputs(fmt::format("{:<22}{}\n", name, value).c_str(), stdout);
}

std::string JoinInts(const std::vector<int>& numbers) {
  std::string text;
  for (const int n : numbers) text += (text.empty() ? "" : ",") + std::to_string(n);
  return text;
}

std::string FeatureList(const platform::CpuFeatures& cpu) {
  std::string text;
  for (const auto& [name, present] :
       {std::pair{"avx2", cpu.avx2}, {"avx512", cpu.avx512}, {"avx512_bf16", cpu.avx512_bf16},
        {"avx512_vbmi", cpu.avx512_vbmi}, {"avx512_vnni", cpu.avx512_vnni}, {"avx_vnni", cpu.avx_vnni}, {"amx_bf16", cpu.amx_bf16},
        {"amx_int8", cpu.amx_int8}, {"neon", cpu.neon}, {"neon_dotprod", cpu.neon_dotprod},
        {"neon_bf16", cpu.neon_bf16}, {"neon_i8mm", cpu.neon_i8mm}}) {
    if (present) text += (text.empty() ? "" : " ") + std::string(name);
  }
  return text.empty() ? "none of those used here" : text;
}

void PrintBuild() {
  Line("Tiercel", TIERCEL_VERSION);
  Line("Build", fmt::format("{}, flags: {}", TIERCEL_BUILD_TYPE, TIERCEL_BUILD_FLAGS));
  Line("Compiler", TIERCEL_COMPILER);
  Line("Ranks over machines", comm::HasMpi() ? "TCP, MPI" : "TCP");
  utsname name;
  if (::uname(&name) == 0) Line("Kernel", fmt::format("{} {}", name.sysname, name.release));
}

void PrintKernels(const platform::CpuFeatures& cpu, const Environ& environ) {
  Line("CPU", fmt::format("{} ({})", cpu.model_name, cpu.vendor));
  Line("CPU features", FeatureList(cpu));
  std::string tables;
  for (const kernels::KernelTable* table : kernels::RunnableKernels(cpu)) {
    tables += (tables.empty() ? "" : "; ") + std::string(table->detail);
  }
  Line("Kernels runnable", tables);
  for (const kernels::KernelTable* table : kernels::MissingKernels(cpu)) {
    Line("Not on this CPU", table->detail);
  }
  const std::vector<kernels::Peak> peaks = kernels::MachinePeaks();
  for (const kernels::Peak& peak : peaks) {
    Line("BF16 peak of a core",
         fmt::format("{:.0f} GFLOP/s by {}", peak.gflop_per_s, peak.kernels->detail));
  }
  const std::string wanted = EnvValue(environ, "TIERCEL_CPU_ISA");
  const auto chosen = kernels::SelectKernels(cpu, wanted, peaks);
  Line("Kernels chosen", chosen ? (*chosen)->detail : chosen.error().message());
  if (!wanted.empty()) Line("TIERCEL_CPU_ISA", wanted);
}

void PrintWorkers(const platform::Topology& topology, const Environ& environ) {
  const Expected<kernels::EnvironmentOptions> options = serving::EnvironmentOfVariables(environ);
  if (!options) return Line("Worker threads on", options.error().message());
  const auto placement = kernels::PlaceRanks(topology, *options);
  Line("Worker threads on", placement ? JoinInts(placement->ranks[0]) : placement.error().message());
  const std::vector<int> kinds = placement ? topology.KindsOf(placement->ranks[0]) : std::vector<int>{};
  const std::string by_hand = EnvValue(environ, "TIERCEL_CPU_SHARES");
  if (!by_hand.empty() || std::set<int>(kinds.begin(), kinds.end()).size() > 1) {
    const auto environment = kernels::Environment::Create(*options);
    Line("Workers × share", !environment                     ? environment.error().message()
                            : (*environment)->shares.empty() ? "all the same"
                                                             : kernels::DescribeShares((*environment)->shares, 1));
  }
  if (const std::string omp = EnvValue(environ, "OMP_NUM_THREADS"); !omp.empty()) {
    Line("OMP_NUM_THREADS", omp);
  }
}

void PrintTopology(const platform::Topology& topology) {
  std::vector<int> ids;
  for (const platform::Cpu& cpu : topology.cpus) ids.push_back(cpu.id);
  Line("CPUs allowed", JoinInts(ids));
  Line("CPU quota", topology.cpu_quota > 0 ? fmt::format("{:.2f} cores", topology.cpu_quota)
                                           : "none");
  Line("NUMA nodes", std::to_string(topology.numa_nodes));
  Line("Caches", fmt::format("L1d {} KiB, L2 {} KiB, L3 {} KiB", topology.l1d_bytes >> 10,
                             topology.l2_bytes >> 10, topology.l3_bytes >> 10));
  Line("Memory", fmt::format("{} usable (machine or cgroup limit), {} available",
                             HumanBytes(topology.memory_total),
                             HumanBytes(topology.memory_available)));
  Line("Huge pages", fmt::format("transparent: {}; reserved and free: {} of 2 MiB",
                                 topology.huge_pages, topology.explicit_huge_pages_free));
}

}  // namespace

CommandText DescribeCollectEnv() { return {kCollectEnvHelp, CollectEnvTable()}; }

int RunCollectEnv(const std::vector<std::string>& words) {
  const OptionTable& table = CollectEnvTable();
  const auto options = ParseOptions(table, words, 0);
  if (!options) return UsageError(kCollectEnvHelp, "tiercel collect-env", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(table, kCollectEnvHelp, "").c_str(), stdout);
    return kExitOk;
  }
  InitLogging();
  const Environ environ = ReadEnviron();
  PrintBuild();
  PrintKernels(platform::CpuFeatures::Detect(), environ);
  const auto topology = platform::Topology::Detect();
  if (!topology) {
    Line("Topology", topology.error().message());
    return kExitFailure;
  }
  PrintTopology(*topology);
  PrintWorkers(*topology, environ);
  for (const auto& [name, value] : environ) {
    const bool secret = name.find("KEY") != std::string::npos ||
                        name.find("TOKEN") != std::string::npos;
    if (name.starts_with("VLLM_") || name.starts_with("HF_")) Line(name, secret ? "***" : value);
  }
  return kExitOk;
}

}  // namespace tiercel::tools
