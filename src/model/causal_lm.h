// CausalLm: what the engine asks of a model. One virtual call a step.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "base/function_ref.h"
#include "base/status.h"
#include "checkpoint/config.h"

namespace tiercel::model {

// One step's inputs: views of plain arrays that stay unchanged until Run returns.
// T rows (tokens) in all, S sequences, R rows whose logits are wanted.
struct StepBatch {
  // [T]. An entry −1 − i stands for "the token that the sampler wrote to sampled[i]" in an
  // earlier step (asynchronous scheduling plans a step before its inputs are known).
  std::span<const int32_t> token_ids;
  std::span<const int32_t> sampled;
  std::span<const int32_t> positions;    // [T]
  std::span<const int32_t> query_start;  // [S + 1]: rows of sequence s are [query_start[s], query_start[s+1])
  std::span<const int32_t> context_len;  // [S]: tokens in the cache once this step's are written
  // [S]: the blocks that hold a sequence's context, ⌈context_len / block size⌉ of them; never block 0.
  std::span<const int32_t* const> block_tables;
  std::span<const int32_t> logit_rows;   // [R], ascending row numbers in [0, T)
};

struct KvOptions {
  int64_t num_blocks = 0;  // including block 0, which is never handed out
  int block_size = 128;    // tokens
};

struct RunLimits {
  int64_t max_rows = 0;         // T ≤ this (max_num_batched_tokens)
  int64_t max_seqs = 0;         // S ≤ this
  // So many rows of logits are kept at a time; where R is larger they come in groups.
  int64_t logit_group_rows = 0;
  int64_t max_context = 0;      // context_len ≤ this (max_model_len); 0: max_position()
};

// Logit rows [first, first + count) of a step: their logits, complete; or their hidden states.
struct LogitGroup {
  int64_t first = 0;
  int64_t count = 0;
  float* logits = nullptr;  // FP32, `stride` elements from row to row; may be written
  int64_t stride = 0;

  float* row(int64_t r) const { return logits + (r - first) * stride; }  // r: of the step
};

// What becomes of a group of logit rows: called by each worker, with its number.
using UseLogits = FunctionRef<void(const LogitGroup& group, int worker)>;

// How steps were run since the start. Readable from any thread.
struct GraphStats {
  uint64_t replayed = 0;  // a Program of an earlier step, or recorded at the start
  uint64_t eager = 0;     // recorded anew
};

class CausalLm {
 public:
  virtual ~CausalLm() = default;

  virtual int64_t vocab_size() const = 0;
  virtual checkpoint::Head head() const { return checkpoint::Head::kLogits; }
  virtual int64_t hidden_size() const = 0;
  virtual int64_t max_position() const = 0;  // derived max_model_len, RoPE scaling included
  virtual int workers() const = 0;           // the team's size
  // Bytes that one KV block of `block_size` tokens takes over all layers.
  virtual int64_t KvBlockBytes(int block_size) const = 0;
  virtual int64_t WeightBytes() const = 0;
  // Less than that where weights lie on disk.
  virtual int64_t WeightBytesInMemory() const { return WeightBytes(); }
  // Bytes of activations and scratch for these limits.
  virtual int64_t ActivationBytes(const RunLimits& limits) const = 0;

  // Allocates cache and activations; called once before the first Run.
  virtual Status Prepare(const KvOptions& kv, const RunLimits& limits) = 0;

  // Gives the memory of the KV cache back to the system until the next Run writes to it. Nothing runs, and
  // what the cache held is gone.
  virtual void EmptyCache() {}

  // While nothing runs, and worth a call when nothing has for a while: does a few milliseconds of work that later steps
  // are spared. False: there is none.
  virtual bool UseIdleTime() { return false; }

  // Prepares the calling thread for Run, where it is worker 0. Once, by a thread other than the one
  // that made the environment.
  virtual void BindThread() {}

  // Runs one step on the worker team. For each group of logit rows, in order, every worker calls
  // `after(group, worker)` within the dispatch that computes them (the sampler's place); the next
  // group overwrites the logits when all workers have returned. Returns when all are done. Nothing
  // in a plan that passed the engine's checks can make it fail; what fails is the machine (a rank
  // that has gone), and then the model takes no further step.
  virtual Status Run(const StepBatch& batch, UseLogits after) = 0;

  // Steps that may be under way at once, where the layers are divided into stages that work on different ones: so many
  // may be started before the oldest is finished. Each sees what those before it have written to the cache. A sampled
  // token that one of its inputs stands for is of a step that has been finished. What was given to Start is used until
  // Finish of that step returns; `after` may be called in either of the two. None is under way during Run.
  virtual int max_under_way() const { return 1; }
  virtual Status Start(const StepBatch& batch, UseLogits after) { return Run(batch, after); }
  virtual Status Finish() { return OkStatus(); }

  // While nothing runs: whether it could, as far as can be told (another process may have gone). Worth a call every so
  // many seconds.
  virtual Status Check() { return OkStatus(); }
  virtual double SecondsBetweenChecks() const { return std::numeric_limits<double>::infinity(); }

  // In a process that is not the first of its job: prepares and runs what the first one does, until that ends.
  virtual Status Follow() { return FailedPrecondition("there is no other process to follow"); }

  virtual GraphStats graph_stats() const { return {}; }
};

}  // namespace tiercel::model
