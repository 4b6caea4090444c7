// tiercel comm-check: who is where in a job of several processes, and what the links between them do.
#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "base/environ.h"
#include "base/human_bytes.h"
#include "base/log.h"
#include "comm/agreement.h"
#include "comm/link_check.h"
#include "kernels/registry.h"
#include "platform/cpu_features.h"
#include "platform/topology.h"
#include "serving/job.h"
#include "serving/version.h"
#include "tools/command.h"
#include "tools/commands.h"

namespace tiercel::tools {
namespace {

constexpr OptionSpec kCommCheckOptions[] = {
    {"--nnodes -n", Kind::kInt, "1", Effect::kUsed, "Processes, one on each machine."},
    {"--node-rank -r", Kind::kInt, "0", Effect::kUsed, "Which of them this one is; 0 prints the table."},
    {"--master-addr", Kind::kString, "127.0.0.1", Effect::kUsed, "Where process 0 waits for the others."},
    {"--master-port", Kind::kInt, "29501", Effect::kUsed, "The port there."},
    {"--distributed-executor-backend", Kind::kString, "", Effect::kUsed,
     "external_launcher: mpirun or another launcher has started the processes, which is found without the flag, too.",
     "mp|external_launcher"},
    {"--distributed-timeout-seconds", Kind::kInt, "", Effect::kUsed, "How long to wait for others (600)."},
};

const OptionTable& CommCheckTable() {
  static const OptionTable table({{"options", "Those of tiercel serve that say which processes there are.", kCommCheckOptions}});
  return table;
}

constexpr CommandHelp kCommCheckHelp = {
    "tiercel comm-check [options]",
    "Starts like `tiercel serve` over several processes, by mpirun or with --nnodes on each machine, and shows who is "
    "where, latency and bandwidth of each pair, and how long a sum over all takes. Exit code 1 if versions differ, a sum "
    "is wrong or somebody does not come.",
    ""};

// What each process says of itself; texts are cut.
struct Who {
  std::array<char, 96> cpu{}, kernels{}, version{};
  int32_t cores = 0, allowed = 0, online = 0;
  int64_t memory = 0;
};

template <size_t N>
void CopyText(const std::string& text, std::array<char, N>* out) {
  std::copy_n(text.data(), std::min(text.size(), N - 1), out->data());
}

Expected<Who> ThisProcess(const Environ& environ) {
  const platform::CpuFeatures cpu = platform::CpuFeatures::Detect();
  ASSIGN_OR_RETURN(const platform::Topology topology, platform::Topology::Detect());
  ASSIGN_OR_RETURN(const kernels::KernelTable* table,
                   kernels::SelectKernels(cpu, EnvValue(environ, "TIERCEL_CPU_ISA"), kernels::MachinePeaks()));
  Who who;
  CopyText(cpu.model_name, &who.cpu);
  CopyText(table->detail, &who.kernels);
  CopyText(TIERCEL_VERSION, &who.version);
  who.cores = static_cast<int32_t>(topology.WorkerCpus(0).size());
  who.allowed = static_cast<int32_t>(topology.cpus.size());
  who.online = static_cast<int32_t>(platform::OnlineCpus());
  who.memory = topology.memory_available;
  return who;
}

// The first process gets everyone's.
Expected<std::vector<Who>> Gather(const Who& own, comm::Transport* transport) {
  const auto [index, count] = transport->process();
  std::vector<Who> all(static_cast<size_t>(count));
  all[static_cast<size_t>(index)] = own;
  std::vector<comm::Transfer> sends, receives;
  if (index != 0) sends.push_back(comm::TransferOf(0, &own, 1));
  for (int i = 1; i < count && index == 0; ++i) receives.push_back(comm::TransferOf(i, &all[static_cast<size_t>(i)], 1));
  RETURN_IF_ERROR(transport->Exchange(sends, receives));
  return all;
}

void Print(const std::string& line) { std::fputs((line + "\n").c_str(), stdout); }

// Whether all is well.
bool PrintWho(const std::vector<Who>& all, const comm::Transport& transport) {
  bool is_well = true;
  Print("Processes");
  for (size_t i = 0; i < all.size(); ++i) {
    const Who& who = all[i];
    Print(fmt::format("  {}: {}; {} cores of {} CPUs; {}; {} free; version {}", transport.NameOf(static_cast<int>(i)),
                      who.cpu.data(), who.cores, who.online, who.kernels.data(), HumanBytes(who.memory),
                      who.version.data()));
    if (who.allowed < who.online) {
      Print(fmt::format("    its affinity mask has {} of {} CPUs: mpirun binds processes to cores unless it is told --bind-to "
                        "none, or --map-by ppr:1:node:PE=n", who.allowed, who.online));
    }
    if (who.version != all[0].version) {
      Print(fmt::format("    version: found {}, expected {}, as in process 0", who.version.data(), all[0].version.data()));
      is_well = false;
    }
    if (who.kernels != all[0].kernels) Print("    other kernels than process 0's: all wait for the slowest, and its numbers differ in their last bits");
  }
  return is_well;
}

bool PrintFigures(const comm::LinkFigures& figures) {
  bool is_well = true;
  Print("Pairs, one way");
  for (const comm::PairFigures& pair : figures.pairs) {
    Print(fmt::format("  {} - {}: {:.1f} us, {:.2f} GB/s", pair.from, pair.to, pair.latency_us, pair.gb_per_s));
  }
  Print("Sums over all processes");
  for (const comm::SumFigures& sum : figures.sums) {
    Print(fmt::format("  {}: {:.3g} ms{}", HumanBytes(sum.bytes), sum.seconds * 1e3,
                      sum.is_right ? "" : ", and the sum is WRONG"));
    is_well &= sum.is_right;
  }
  return is_well;
}

Expected<bool> Check(const ParsedOptions& options, const Environ& environ) {
  ASSIGN_OR_RETURN(const std::optional<serving::JobConfig> job, serving::FindProcesses(options, environ, !options.Given("nnodes")));
  if (!job) {
    return Unexpected(InvalidArgument(
        "found one process, expected several: start it by mpirun -np N, or with --nnodes N and --node-rank on each machine"));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<comm::Transport> transport, serving::Connect(*job, nullptr));
  ASSIGN_OR_RETURN(const Who own, ThisProcess(environ));
  ASSIGN_OR_RETURN(const std::vector<Who> all, Gather(own, transport.get()));
  const bool first = transport->process().is_first();
  bool is_well = !first || PrintWho(all, *transport);
  ASSIGN_OR_RETURN(const comm::LinkFigures figures, comm::CheckLinks(transport.get()));
  if (first) is_well &= PrintFigures(figures);
  return is_well;
}

}  // namespace

CommandText DescribeCommCheck() { return {kCommCheckHelp, CommCheckTable()}; }

int RunCommCheck(const std::vector<std::string>& words) {
  const auto options = ParseOptions(CommCheckTable(), words, 0);
  if (!options) return UsageError(kCommCheckHelp, "tiercel comm-check", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(CommCheckTable(), kCommCheckHelp, "all").c_str(), stdout);
    return kExitOk;
  }
  InitLogging();
  const auto is_well = Check(*options, ReadEnviron());
  if (!is_well) return LoggedFailure(is_well.error());
  return *is_well ? kExitOk : kExitFailure;
}

}  // namespace tiercel::tools
