#include "serving/parallel_config.h"

#include <utility>

#include "comm/collectives.h"
#include "options/human_int.h"
#include "platform/placement.h"

namespace tiercel::serving {
namespace {

constexpr const char* kBind = "VLLM_CPU_OMP_THREADS_BIND";
constexpr const char* kReserved = "VLLM_CPU_NUM_OF_RESERVED_CPU";

Status FillRanks(const ParsedOptions& options, const Environ& environ, ServeConfig* config) {
  ASSIGN_OR_RETURN(config->tensor_parallel_size,
                   options.IntBetween("tensor-parallel-size", 1, comm::kMaxRanks));
  ASSIGN_OR_RETURN(config->job, FindJob(options, environ));
  const std::string backend = options.String("distributed-executor-backend");
  if (!config->job && options.Int("pipeline-parallel-size") > 1) {
    config->warnings.push_back(fmt::format(
        "--pipeline-parallel-size {}: one process has all the stages, so they are one; several have one each: --nnodes",
        options.Int("pipeline-parallel-size")));
  }
  if (config->job) {
    config->environment.ranks = config->job->ranks;
    config->environment.neighbors = config->job->neighbors;
  } else if (backend.empty() || backend == "mp" || backend == "external_launcher") {
    config->environment.ranks = static_cast<int>(config->tensor_parallel_size);
  } else if (config->tensor_parallel_size > 1) {
    config->warnings.push_back(fmt::format(
        "--distributed-executor-backend {}: one team serves the whole model on all cores; mp makes ranks",
        backend));
  }
  return OkStatus();
}

// Which of the engines this process has.
struct LocalEngines {
  int64_t first = 0, count = 1;
};

// One API for engines of several machines would have to reach them.
Status RefuseOthers(const char* flag, int64_t found, int64_t expected) {
  return InvalidArgument(
      "argument --{}: found {}, expected {}: engines of other processes behind this one's API are not "
      "supported; with --data-parallel-hybrid-lb each process serves its own, behind a load balancer",
      flag, found, expected);
}

Expected<LocalEngines> FindLocalEngines(const ParsedOptions& options, int64_t size) {
  constexpr const char* kRank = "data-parallel-rank";
  constexpr const char* kFirst = "data-parallel-start-rank";
  constexpr const char* kLocal = "data-parallel-size-local";
  LocalEngines local{0, size};
  if (options.Given(kRank)) {
    ASSIGN_OR_RETURN(local.first, options.IntBetween(kRank, 0, size - 1));
    local.count = 1;
    return local;
  }
  if (options.On("data-parallel-external-lb")) {
    return Unexpected(InvalidArgument(
        "argument --data-parallel-external-lb: found no --data-parallel-rank, expected the number of the "
        "engine that this process is to have"));
  }
  if (options.Given(kFirst)) {
    ASSIGN_OR_RETURN(local.first, options.IntBetween(kFirst, 0, size - 1));
  }
  if (options.Given(kLocal)) {
    ASSIGN_OR_RETURN(local.count, options.IntBetween(kLocal, 1, size - local.first));
  }
  if (options.On("data-parallel-hybrid-lb")) {
    local.count = std::min(local.count, size - local.first);
    return local;
  }
  if (local.first != 0) return Unexpected(RefuseOthers(kFirst, local.first, 0));
  if (local.count != size) return Unexpected(RefuseOthers(kLocal, local.count, size));
  return local;
}

Status FillEngines(const ParsedOptions& options, ServeConfig* config) {
  ASSIGN_OR_RETURN(const int64_t size,
                   options.IntBetween("data-parallel-size", 1, platform::kMaxWorkers));
  ASSIGN_OR_RETURN(const LocalEngines local, FindLocalEngines(options, size));
  config->data_parallel_size = static_cast<int>(size);
  config->environment.engines = static_cast<int>(local.count);
  config->engine.index = static_cast<int>(local.first);
  if (local.count < size) {
    config->warnings.push_back(fmt::format(
        "--data-parallel-size {}: this process has {} of the engines, from number {} on; the others are "
        "processes of their own, and a load balancer has to choose among them",
        size, local.count, local.first));
  }
  return OkStatus();
}

Expected<platform::CpuBinding> BindingOfFlags(const ParsedOptions& options,
                                              std::vector<std::string>* warnings) {
  platform::CpuBinding binding;
  if (options.Given("numa-bind-cpus")) {
    binding.kind = platform::CpuBinding::Kind::kLists;
    binding.source = "argument --numa-bind-cpus";
    for (const std::string& list : options.Strings("numa-bind-cpus")) {
      ASSIGN_OR_RETURN(std::vector<int> cpus, platform::ParseCpus(list, binding.source));
      binding.lists.push_back(std::move(cpus));
    }
    if (options.Given("numa-bind-nodes")) {
      warnings->push_back("--numa-bind-nodes has no effect here beside --numa-bind-cpus: a rank's memory lies "
                          "where its CPUs are");
    }
    return binding;
  }
  if (!options.Given("numa-bind-nodes")) return binding;
  binding.kind = platform::CpuBinding::Kind::kNodes;
  binding.source = "argument --numa-bind-nodes";
  for (const std::string& text : options.Strings("numa-bind-nodes")) {
    const auto node = options::ParseInt(text);
    if (!node || *node < 0 || *node > 65535) {
      return Unexpected(InvalidArgument("{}: found '{}', expected the numbers of NUMA nodes", binding.source,
                                        text.substr(0, 64)));
    }
    binding.nodes.push_back(static_cast<int>(*node));
  }
  return binding;
}

Status FillBinding(const ParsedOptions& options, const Environ& environ, ServeConfig* config) {
  using Kind = platform::CpuBinding::Kind;
  ASSIGN_OR_RETURN(platform::CpuBinding of_variable,
                   platform::ParseCpuBinding(EnvValue(environ, kBind), kBind));
  ASSIGN_OR_RETURN(platform::CpuBinding of_flags, BindingOfFlags(options, &config->warnings));
  const bool flags_bind = of_flags.kind != Kind::kAuto;
  if ((flags_bind && of_variable.kind != Kind::kAuto) ||
      (options.On("numa-bind") && of_variable.kind == Kind::kNone)) {
    return InvalidArgument("{}={} and {} contradict each other: give one of them", kBind,
                           EnvValue(environ, kBind).substr(0, 64),
                           flags_bind ? of_flags.source : "argument --numa-bind");
  }
  kernels::EnvironmentOptions& environment = config->environment;
  environment.binding = flags_bind ? std::move(of_flags) : std::move(of_variable);
  environment.reserved_cpus = static_cast<int>(options::EnvInt(environ, kReserved).value_or(0));
  if (environment.reserved_cpus > 0 && environment.binding.kind == Kind::kLists) {
    config->warnings.push_back(fmt::format("{}={} has no effect here: {} names the CPUs", kReserved,
                                           environment.reserved_cpus, environment.binding.source));
  }
  return OkStatus();
}

}  // namespace

Expected<kernels::EnvironmentOptions> EnvironmentOfVariables(const Environ& environ) {
  kernels::EnvironmentOptions options;
  ASSIGN_OR_RETURN(options.binding, platform::ParseCpuBinding(EnvValue(environ, kBind), kBind));
  std::vector<std::vector<int>>& lists = options.binding.lists;
  for (size_t rank = 1; rank < lists.size(); ++rank) lists[0].insert(lists[0].end(), lists[rank].begin(), lists[rank].end());
  if (lists.size() > 1) lists.resize(1);
  options.reserved_cpus = static_cast<int>(options::EnvInt(environ, kReserved).value_or(0));
  return options;
}

Status FillParallel(const ParsedOptions& options, const Environ& environ, ServeConfig* config) {
  RETURN_IF_ERROR(FillRanks(options, environ, config));
  RETURN_IF_ERROR(FillEngines(options, config));
  return FillBinding(options, environ, config);
}

}  // namespace tiercel::serving
