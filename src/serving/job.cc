#include "serving/job.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/split.h"
#include "comm/agreement.h"
#include "comm/mpi_transport.h"
#include "comm/tcp_transport.h"
#include "options/env_vars.h"
#include "options/human_int.h"
#include "serving/model_loading.h"
#include "serving/serve_config.h"
#include "serving/version.h"

namespace tiercel::serving {
namespace {

constexpr double kTimeoutSeconds = 600;

// The variables by which a launcher tells a process its place.
struct Launcher {
  const char* name;
  JobConfig::Way way;
  const char *index, *count;
  const char *local_index, *local_count;
};

constexpr std::array kLaunchers = {
    Launcher{"Open MPI", JobConfig::Way::kMpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
             "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    Launcher{"MPICH", JobConfig::Way::kMpi, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    Launcher{"torchrun", JobConfig::Way::kTcp, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
};

// A number of a variable, at least `least` and below `end`.
Expected<int> NumberOf(const Environ& environ, const char* name, int least, int end) {
  const auto number = options::EnvInt(environ, name);
  if (!number || *number < least || *number >= end) {
    return Unexpected(InvalidArgument("{}: found \"{}\", expected a number from {} to {}", name,
                                      EnvValue(environ, name).substr(0, 64), least, end - 1));
  }
  return static_cast<int>(*number);
}

bool IsLaunched(const Environ& environ) {
  return std::any_of(kLaunchers.begin(), kLaunchers.end(),
                     [&](const Launcher& launcher) { return !EnvValue(environ, launcher.index).empty(); });
}

Expected<JobConfig> JobOfLauncher(const options::ParsedOptions& options, const Environ& environ) {
  for (const Launcher& launcher : kLaunchers) {
    if (EnvValue(environ, launcher.index).empty()) continue;
    JobConfig job;
    job.way = launcher.way;
    ASSIGN_OR_RETURN(job.process.count, NumberOf(environ, launcher.count, 1, comm::kMaxProcesses + 1));
    ASSIGN_OR_RETURN(job.process.index, NumberOf(environ, launcher.index, 0, job.process.count));
    if (!EnvValue(environ, launcher.local_count).empty()) {
      ASSIGN_OR_RETURN(job.neighbors.count, NumberOf(environ, launcher.local_count, 1, job.process.count + 1));
      ASSIGN_OR_RETURN(job.neighbors.index, NumberOf(environ, launcher.local_index, 0, job.neighbors.count));
    }
    if (job.way == JobConfig::Way::kMpi || job.process.count == 1) return job;
    job.address = options.Given("master-addr") ? options.String("master-addr") : EnvValue(environ, "MASTER_ADDR");
    if (job.address.empty()) {
      return Unexpected(InvalidArgument("MASTER_ADDR: found nothing beside {}, expected the address of the first process",
                                        launcher.index));
    }
    if (options.Given("master-port")) return job;
    ASSIGN_OR_RETURN(job.port, NumberOf(environ, "MASTER_PORT", 1, 65536));
    return job;
  }
  return Unexpected(InvalidArgument(
      "argument --distributed-executor-backend: external_launcher, and found none of OMPI_COMM_WORLD_RANK, PMI_RANK and "
      "RANK, expected to be started by mpirun or another launcher; without one: --nnodes, --node-rank, --master-addr"));
}

Expected<std::optional<JobConfig>> JobOfFlags(const options::ParsedOptions& options) {
  ASSIGN_OR_RETURN(const int64_t count, options.IntBetween("nnodes", 1, comm::kMaxProcesses));
  ASSIGN_OR_RETURN(const int64_t index, options.IntBetween("node-rank", 0, count - 1));
  if (count == 1) return std::optional<JobConfig>();
  JobConfig job;
  job.process = {static_cast<int>(index), static_cast<int>(count)};
  job.address = options.String("master-addr");
  return job;
}

// Each process has as many of the ranks, consecutive ones: a part of a stage, or whole stages, which are then one.
Status DivideRanks(const options::ParsedOptions& options, JobConfig* job) {
  ASSIGN_OR_RETURN(const int64_t tensor, options.IntBetween("tensor-parallel-size", 1, comm::kMaxRanks));
  ASSIGN_OR_RETURN(const int64_t pipeline, options.IntBetween("pipeline-parallel-size", 1, comm::kMaxProcesses));
  const int64_t processes = job->process.count, each = tensor * pipeline / processes;
  const bool divides = tensor * pipeline % processes == 0 && (each >= tensor ? each % tensor : tensor % each) == 0;
  if (!divides) {
    return InvalidArgument(
        "argument --tensor-parallel-size: found {}, with --pipeline-parallel-size {}, expected ranks that {} processes can "
        "share evenly: each a part of a stage, or whole stages", tensor, pipeline, processes);
  }
  job->ranks = static_cast<int>(std::min(each, tensor));
  job->stages = static_cast<int>(processes * job->ranks / tensor);
  return OkStatus();
}

// vLLM's variable has a number for each stage of the pipeline; where a process has several, these are one.
Status DivideLayers(const options::ParsedOptions& options, const Environ& environ, JobConfig* job) {
  constexpr const char* kName = "VLLM_PP_LAYER_PARTITION";
  const std::string text = EnvValue(environ, kName);
  if (text.empty()) return OkStatus();
  const int64_t pipeline = options.Int("pipeline-parallel-size");
  const auto fail = [&] {
    return InvalidArgument("{}: found \"{}\", expected {} positive numbers with commas between them, as many as "
                           "--pipeline-parallel-size", kName, text.substr(0, 64), pipeline);
  };
  const std::vector<std::string_view> numbers = Split(text, ',');
  if (std::ssize(numbers) != pipeline) return fail();
  job->stage_layers.resize(static_cast<size_t>(job->stages));
  for (size_t i = 0; i < numbers.size(); ++i) {
    constexpr int64_t kMost = 1 << 16;
    const Expected<int64_t> layers = options::ParseInt(std::string(numbers[i]));
    if (!layers || *layers < 1 || *layers > kMost) return fail();
    job->stage_layers[i * static_cast<size_t>(job->stages) / numbers.size()] += *layers;
  }
  return OkStatus();
}

Status CheckOthers(const options::ParsedOptions& options, const JobConfig& job) {
  if (options.Int("data-parallel-size") > 1) {
    return InvalidArgument(
        "argument --data-parallel-size: found {} with a model over {} processes, expected 1; start several jobs behind a "
        "load balancer", options.Int("data-parallel-size"), job.process.count);
  }
  return OkStatus();
}

// What has to be the same in all processes, or they would wait for each other, or compute different things.
std::string Alike(const ServeConfig& config) {
  const model::GraphOptions& graph = config.load.graph;
  const std::vector<int64_t>& layers = config.job->stage_layers;
  return fmt::format("ranks {}, stages {}{}, quantization \"{}\", KV cache type {}, FlashComm {} {}", config.tensor_parallel_size,
                     config.job->stages, layers.empty() ? "" : fmt::format(" of {} layers", fmt::join(layers, ",")), config.quantization, config.load.weights.kv_dtype ? static_cast<int>(*config.load.weights.kv_dtype) : -1,
                     graph.flashcomm_rows, static_cast<int>(graph.fuse_sum));
}

// Launchers bind a process, with all its workers, to a core unless they are told otherwise.
void WarnOfNarrowMask(const JobConfig& job, const platform::Topology& topology) {
  const int online = platform::OnlineCpus(), allowed = static_cast<int>(topology.cpus.size());
  if (allowed >= online / job.neighbors.count) return;
  LOG_WARNING("process {} may use {} of {} CPUs, and {} of the job are on this machine: mpirun binds processes to cores unless it "
              "is told --bind-to none, or --map-by ppr:1:node:PE=n", job.process.index, allowed, online, job.neighbors.count);
}

}  // namespace

Expected<std::optional<JobConfig>> FindProcesses(const options::ParsedOptions& options, const Environ& environ,
                                                 bool by_variables) {
  std::optional<JobConfig> job;
  if (options.String("distributed-executor-backend") == "external_launcher" || (by_variables && IsLaunched(environ))) {
    ASSIGN_OR_RETURN(job, JobOfLauncher(options, environ));
    if (job->process.count == 1) return std::optional<JobConfig>();
  } else {
    ASSIGN_OR_RETURN(job, JobOfFlags(options));
  }
  if (!job) return job;
  if (job->port == 0) {
    ASSIGN_OR_RETURN(const int64_t port, options.IntBetween("master-port", 1, 65535));
    job->port = static_cast<int>(port);
  }
  job->timeout_seconds = kTimeoutSeconds;
  if (options.Given("distributed-timeout-seconds")) {
    ASSIGN_OR_RETURN(const int64_t seconds, options.IntBetween("distributed-timeout-seconds", 1, 1 << 20));
    job->timeout_seconds = static_cast<double>(seconds);
  }
  if (job->way == JobConfig::Way::kMpi && !comm::HasMpi()) {
    return Unexpected(FailedPrecondition(
        "argument --distributed-executor-backend: external_launcher under mpirun, and this build has no MPI (it is made "
        "with -DTIERCEL_MPI=ON); without it: --nnodes, --node-rank, --master-addr and --master-port on each node"));
  }
  return job;
}

Expected<std::optional<JobConfig>> FindJob(const options::ParsedOptions& options, const Environ& environ) {
  ASSIGN_OR_RETURN(std::optional<JobConfig> job, FindProcesses(options, environ));
  if (options.On("headless") && (!job || job->process.is_first())) {
    return Unexpected(InvalidArgument(
        "argument --headless: found it on node 0, expected it on the others: node 0 serves the model"));
  }
  if (!job) return job;
  RETURN_IF_ERROR(DivideRanks(options, &*job));
  RETURN_IF_ERROR(DivideLayers(options, environ, &*job));
  RETURN_IF_ERROR(CheckOthers(options, *job));
  return job;
}

Expected<std::unique_ptr<comm::Transport>> Connect(const JobConfig& job, const std::atomic<bool>* cancelled) {
  if (job.way == JobConfig::Way::kMpi) return comm::ConnectMpi({job.timeout_seconds});
  return comm::ConnectTcp({.process = job.process, .address = job.address, .port = job.port,
                           .timeout_seconds = job.timeout_seconds, .cancelled = cancelled});
}

Status JoinJob(ServeConfig* config, const std::atomic<bool>* cancelled) {
  if (!config->job) return OkStatus();
  const JobConfig& job = *config->job;
  const auto [index, count] = job.process;
  LOG_INFO("Process {} of {}{}, {}", index, count,
           job.stages > 1 ? fmt::format(", in stage {} of {} of the layers", index / (count / job.stages), job.stages) : "",
           job.way == JobConfig::Way::kMpi ? "by MPI"
                                           : fmt::format("over TCP; the first one is at {}:{}", job.address, job.port));
  ASSIGN_OR_RETURN(std::unique_ptr<comm::Transport> transport, Connect(job, cancelled));
  RETURN_IF_ERROR(comm::CheckAlike("version", TIERCEL_VERSION, transport.get()));
  RETURN_IF_ERROR(comm::CheckAlike("flags", Alike(*config), transport.get()));
  for (int i = 0; i < count; ++i) {
    if (i != index) LOG_INFO("Met {}", transport->NameOf(i));
  }
  config->load.weights.process = transport->process();
  config->load.weights.stages = job.stages;
  config->load.weights.stage_layers = job.stage_layers;
  config->load.transport = std::move(transport);
  return OkStatus();
}

Status AgreeOnModel(const ServeConfig& config, Status loaded, kernels::Environment* environment) {
  comm::Transport* const transport = config.load.transport.get();
  if (transport == nullptr) return loaded;
  // A large model takes its time, and some take longer than others.
  RETURN_IF_ERROR(comm::Agree(std::move(loaded), transport, comm::Transport::Patience::kForever));
  platform::Topology& topology = environment->topology;
  WarnOfNarrowMask(*config.job, topology);
  const Status alike = comm::CheckAlike("CPU kernels", environment->kernels->detail, transport);
  if (alike.code() == StatusCode::kInvalidArgument) {
    LOG_WARNING("{}: each part of the model is right, but the last bits of answers depend on which process computes what; "
                "TIERCEL_CPU_ISA names kernels that all have", alike.message());
  } else {
    RETURN_IF_ERROR(alike);
  }
  ASSIGN_OR_RETURN(topology.memory_total, comm::Least(topology.memory_total, transport));
  ASSIGN_OR_RETURN(topology.memory_available, comm::Least(topology.memory_available, transport));
  return OkStatus();
}

Status FollowJob(const ServeConfig& config, const std::string& path, const Environ& environ,
                 kernels::Environment* environment) {
  const double start = SteadyClock().Now();
  auto model = LoadPart(config, path, environ, environment);
  RETURN_IF_ERROR(AgreeOnModel(config, model ? OkStatus() : model.error(), environment));
  LOG_INFO("Ready after {:.2f} s: {:.2f} GiB of weights", SteadyClock().Now() - start,
           static_cast<double>((*model)->WeightBytes()) / (1 << 30));
  return (*model)->Follow();
}

}  // namespace tiercel::serving
