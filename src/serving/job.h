// A job: the processes, on one machine or several, that serve one model together. Which of them this one is, from
// flags and from what started it (mpirun, srun, torchrun); and how it meets the others.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/environ.h"
#include "base/status.h"
#include "comm/transport.h"
#include "kernels/environment.h"
#include "options/option_parser.h"

namespace tiercel::serving {

struct ServeConfig;

struct JobConfig {
  enum class Way : uint8_t { kTcp, kMpi };

  comm::Process process;
  int stages = 1;  // that the layers are divided into: each has as many of the processes
  std::vector<int64_t> stage_layers;  // of each, if the user has said
  int ranks = 1;   // of each process: teams of its workers
  Way way = Way::kTcp;
  std::string address;  // of the first process, for kTcp
  int port = 0;
  double timeout_seconds = 0;
  kernels::Neighbors neighbors;  // processes of the job on this machine, where the launcher tells
};

// Which processes there are; nothing: this one is alone. The user's fault is kInvalidArgument and names the flag or
// variable. `by_variables`: what a launcher has set counts without --distributed-executor-backend, too.
Expected<std::optional<JobConfig>> FindProcesses(const options::ParsedOptions& options, const Environ& environ,
                                                 bool by_variables = false);

// The same, with the model's ranks and stages divided among them.
Expected<std::optional<JobConfig>> FindJob(const options::ParsedOptions& options, const Environ& environ);

// Meets the other processes. Once `*cancelled` is true (it may be null) it waits no longer.
Expected<std::unique_ptr<comm::Transport>> Connect(const JobConfig& job, const std::atomic<bool>* cancelled);

// Meets the other processes of config->job, sees that they were started alike, and has the model loaded for this one's
// part. Nothing to do where there is no job.
Status JoinJob(ServeConfig* config, const std::atomic<bool>* cancelled);

// Every process, with what has come of loading its part: an error if one has failed, with its name. The memory that
// all may plan with becomes that of the process with the least.
Status AgreeOnModel(const ServeConfig& config, Status loaded, kernels::Environment* environment);

// In a process that is not the first of its job: loads its part of the model, and runs what the first one does until
// that ends. `path` is the model's folder or .gguf file.
Status FollowJob(const ServeConfig& config, const std::string& path, const Environ& environ,
                 kernels::Environment* environment);

}  // namespace tiercel::serving
