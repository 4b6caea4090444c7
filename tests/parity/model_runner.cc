#include "parity/model_runner.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "comm/socket.h"
#include "comm/tcp_transport.h"
#include "kernels/test_kernels.h"

namespace tiercel::parity {

std::vector<const kernels::KernelTable*> AllKernels() {
#ifdef TIERCEL_SANITIZED
  return {kernels::Kernels().back()};
#else
  return kernels::Kernels();
#endif
}

std::vector<const kernels::KernelTable*> FirstAndLastKernels() {
  const auto& all = kernels::Kernels();
  if (all.size() == 1) return all;
  return {all.front(), all.back()};
}

std::string TestName(const kernels::KernelTable& table) {
  std::string name = table.detail;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

std::string TestName(const Team& team) {
  const std::string workers = std::to_string(team.workers) + "_workers";
  std::string name = team.ranks == 1 ? workers : std::to_string(team.ranks) + "_ranks_of_" + workers;
  if (team.processes > 1) name += "_in_" + std::to_string(team.processes) + "_processes";
  if (team.stages > 1) name += "_" + std::to_string(team.stages) + "_stages";
  if (!team.shares.empty()) name += "_not_equal";
  return name;
}

std::string TestName(std::string_view model, const kernels::KernelTable& table, const Team& team) {
  std::string name(model);
  std::replace(name.begin(), name.end(), '-', '_');
  return name + "_" + TestName(table) + "_" + TestName(team);
}

namespace {

Expected<int> FreePort() {
  ASSIGN_OR_RETURN(const comm::Socket socket, comm::Listen("127.0.0.1", 0));
  ASSIGN_OR_RETURN(const comm::Endpoint end, comm::LocalEnd(socket));
  return end.port;
}

Expected<std::unique_ptr<kernels::Environment>> MakeEnvironment(const RunnerOptions& options) {
  kernels::EnvironmentOptions environment;
  environment.ranks = options.team.ranks * options.team.stages / options.team.processes;
  environment.threads = environment.ranks * options.team.workers;
  environment.pin = false;
  ASSIGN_OR_RETURN(auto made, kernels::Environment::Create(environment));
  made->shares = options.team.shares;
  if (options.kernels != nullptr) {
    // Not by name: an ISA may have two tables.
    made->kernels = options.kernels;
    made->team->Run([&](int) { options.kernels->init_thread(); });
  }
  return made;
}

Expected<std::unique_ptr<model::CausalLm>> MakeModel(const checkpoint::Checkpoint& checkpoint, const RunnerOptions& options,
                                                     std::shared_ptr<comm::Transport> transport,
                                                     kernels::Environment* environment) {
  model::LoadOptions load{.graph = options.graph, .prefetch = {}, .weights = options.weights, .transport = transport};
  if (transport != nullptr) load.weights.process = transport->process();
  load.weights.stages = options.team.stages;
  return model::LoadModel(checkpoint, load, environment, [](int64_t, int64_t) {});
}

}  // namespace

ModelRunner::~ModelRunner() {
  model_.reset();  // which tells them
  for (std::future<Status>& follower : followers_) {
    const Status status = follower.get();
    CHECK_MSG(status.ok(), "{}", status.message());
  }
}

Status ModelRunner::Follow(const checkpoint::Checkpoint& checkpoint, const RunnerOptions& options, int process, int port) {
  ASSIGN_OR_RETURN(std::shared_ptr<comm::Transport> transport,
                   comm::ConnectTcp({.process = {process, options.team.processes}, .port = port, .timeout_seconds = 60}));
  ASSIGN_OR_RETURN(const auto environment, MakeEnvironment(options));
  ASSIGN_OR_RETURN(const auto model, MakeModel(checkpoint, options, std::move(transport), environment.get()));
  return model->Follow();
}

Expected<std::unique_ptr<ModelRunner>> ModelRunner::Create(const std::string& path,
                                                           const RunnerOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<checkpoint::Checkpoint> checkpoint,
                   checkpoint::Checkpoint::Open(path, "", options.quantization));
  return Create(*checkpoint, options);
}

Expected<std::unique_ptr<ModelRunner>> ModelRunner::Create(const checkpoint::Checkpoint& checkpoint,
                                                           const RunnerOptions& options) {
  auto runner = std::make_unique<ModelRunner>();
  std::shared_ptr<comm::Transport> transport;
  const int processes = options.team.processes;
  if (processes > 1) {
    ASSIGN_OR_RETURN(const int port, FreePort());
    for (int i = 1; i < processes; ++i) {
      runner->followers_.push_back(std::async(std::launch::async, Follow, std::cref(checkpoint), options, i, port));
    }
    ASSIGN_OR_RETURN(transport, comm::ConnectTcp({.process = {0, processes}, .port = port, .timeout_seconds = 60}));
  }
  ASSIGN_OR_RETURN(runner->environment_, MakeEnvironment(options));
  ASSIGN_OR_RETURN(runner->model_, MakeModel(checkpoint, options, transport, runner->environment_.get()));
  runner->block_size_ = options.block_size;
  runner->num_blocks_ = options.num_blocks;
  RETURN_IF_ERROR(
      runner->model_->Prepare({options.num_blocks, options.block_size}, options.limits));
  return runner;
}

int ModelRunner::NewSequence() {
  sequences_.emplace_back();
  return static_cast<int>(sequences_.size()) - 1;
}

int ModelRunner::ShareSequence(int other, int64_t tokens) {
  CHECK_EQ(tokens % block_size_, 0);
  CHECK_LE(tokens, sequences_[other].length);
  const int id = NewSequence();
  sequences_[id].length = tokens;
  sequences_[id].blocks.assign(sequences_[other].blocks.begin(),
                               sequences_[other].blocks.begin() + tokens / block_size_);
  return id;
}

ModelRunner::Started ModelRunner::MakeStep(const std::vector<Part>& parts) {
  Started step;
  step.query_start = {0};
  for (const Part& part : parts) {
    Sequence& sequence = sequences_[part.sequence];
    for (const int32_t token : part.tokens) {
      if (part.want_logits) step.logit_rows.push_back(static_cast<int32_t>(step.token_ids.size()));
      step.token_ids.push_back(token);
      step.positions.push_back(static_cast<int32_t>(sequence.length++));
    }
    while (std::ssize(sequence.blocks) * block_size_ < sequence.length) {
      CHECK_LT(next_block_, num_blocks_);
      sequence.blocks.push_back(next_block_++);
    }
    step.query_start.push_back(static_cast<int32_t>(step.token_ids.size()));
    step.context_len.push_back(static_cast<int32_t>(sequence.length));
    step.block_tables.push_back(sequence.blocks.data());
  }
  step.logits.resize(step.logit_rows.size());
  step.vocab = model_->vocab_size();
  return step;
}

model::StepBatch ModelRunner::Started::Batch() const {
  model::StepBatch batch;
  batch.token_ids = token_ids;
  batch.positions = positions;
  batch.query_start = query_start;
  batch.context_len = context_len;
  batch.block_tables = block_tables;
  batch.logit_rows = logit_rows;
  return batch;
}

void ModelRunner::Started::operator()(const model::LogitGroup& group, int worker) {
  if (worker != 0) return;
  for (int64_t r = group.first; r < group.first + group.count; ++r) {
    logits[r].assign(group.row(r), group.row(r) + vocab);
  }
}

void ModelRunner::Step(const std::vector<Part>& parts) {
  Started step = MakeStep(parts);
  const Status status = model_->Run(step.Batch(), step);
  CHECK_MSG(status.ok(), "{}", status.message());
  logits_ = std::move(step.logits);
}

void ModelRunner::Start(const std::vector<Part>& parts) {
  Started& step = under_way_.emplace_back(MakeStep(parts));
  const Status status = model_->Start(step.Batch(), step);
  CHECK_MSG(status.ok(), "{}", status.message());
}

void ModelRunner::Finish() {
  const Status status = model_->Finish();
  CHECK_MSG(status.ok(), "{}", status.message());
  logits_ = std::move(under_way_.front().logits);
  under_way_.pop_front();
}

}  // namespace tiercel::parity
