// ModelRunner: drives a model step by step with hand-made batches. For tests and tools.
#pragma once

#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/environment.h"
#include "kernels/registry.h"
#include "model/load_model.h"

namespace tiercel::parity {

// Who runs a model: ranks of so many workers each, as many in each of several processes. (Here these are threads, each
// with an environment and a model of its own: all that they know of each other goes over the transport.)
struct Team {
  int ranks = 1;    // of a stage
  int workers = 0;  // 0: one per core
  int processes = 1;
  int stages = 1;  // of the layers: divide the processes
  std::vector<int> shares = {};  // of the work that each worker of a process gets; empty: they are equal
};

struct RunnerOptions {
  const kernels::KernelTable* kernels = nullptr;  // null: the best
  Team team;
  model::GraphOptions graph;
  model::WeightOptions weights;
  std::string quantization;  // --quantization
  model::RunLimits limits{.max_rows = 512, .max_seqs = 64, .logit_group_rows = 512};
  int block_size = 32;
  int64_t num_blocks = 1024;
};

// The kernel tables that this CPU runs, and a name for each that fits into a test's name. With a sanitizer the best
// alone: whole models ten times slower, whose kernels have tests of their own.
std::vector<const kernels::KernelTable*> AllKernels();
// The scalar ones and the best: for what depends on the ranks rather than on the kernels.
std::vector<const kernels::KernelTable*> FirstAndLastKernels();
std::string TestName(const kernels::KernelTable& table);
std::string TestName(const Team& team);
// Of all three; `model` may be a folder's name.
std::string TestName(std::string_view model, const kernels::KernelTable& table, const Team& team);

class ModelRunner {
 public:
  // One sequence's part of a step: these tokens follow what it has in the cache.
  struct Part {
    int sequence = 0;
    std::vector<int32_t> tokens;
    bool want_logits = true;  // of every token, else of none
  };

  static Expected<std::unique_ptr<ModelRunner>> Create(const std::string& path,
                                                       const RunnerOptions& options);
  static Expected<std::unique_ptr<ModelRunner>> Create(const checkpoint::Checkpoint& checkpoint,
                                                       const RunnerOptions& options);
  ~ModelRunner();  // after the other processes

  int NewSequence();
  // A sequence that starts with the first `tokens` of another one by sharing its blocks; a
  // multiple of the block size.
  int ShareSequence(int other, int64_t tokens);
  // The sequence is empty again; its next tokens go into the blocks that it has had, as they are.
  void StartOver(int sequence) { sequences_[sequence].length = 0; }

  // Runs one step. logits()[i] are those of the i-th wanted row, in the order of the parts.
  void Step(const std::vector<Part>& parts);
  // One step as it starts; logits() are of the oldest once Finish has returned.
  void Start(const std::vector<Part>& parts);
  void Finish();
  const std::vector<std::vector<float>>& logits() const { return logits_; }

  model::CausalLm& lm() { return *model_; }

 private:
  struct Sequence {
    int64_t length = 0;
    std::vector<int32_t> blocks;
  };

  // A step's inputs, and where its logits go.
  struct Started {
    std::vector<int32_t> token_ids, positions, query_start, context_len, logit_rows;
    std::vector<const int32_t*> block_tables;
    std::vector<std::vector<float>> logits;
    int64_t vocab = 0;

    model::StepBatch Batch() const;
    void operator()(const model::LogitGroup& group, int worker);
  };

  Started MakeStep(const std::vector<Part>& parts);

  // Runs in the others.
  static Status Follow(const checkpoint::Checkpoint& checkpoint, const RunnerOptions& options, int process, int port);

  std::unique_ptr<kernels::Environment> environment_;
  std::unique_ptr<model::CausalLm> model_;
  std::vector<std::future<Status>> followers_;
  int block_size_ = 0;
  int64_t num_blocks_ = 0;
  int32_t next_block_ = 1;
  std::vector<Sequence> sequences_;
  std::deque<Started> under_way_;
  std::vector<std::vector<float>> logits_;
};

}  // namespace tiercel::parity
