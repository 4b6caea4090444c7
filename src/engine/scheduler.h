// Scheduler: which tokens the next step computes. Pure logic: no tensors, threads, time or I/O.
//
// One order rules everything: under kFcfs by arrival, under kPriority by (priority, arrival), the
// samples of a request by index. Each step has one token budget.
//   1. Running sequences, in order, get their next token or the next chunk of their prompt. Where
//      blocks run out, the last running sequence is preempted: it gives up its blocks, waits
//      again and is later computed anew (from the prefix cache, as far as that still holds it).
//   2. If nothing was preempted, waiting sequences are admitted in order while the budget,
//      max_num_seqs and the blocks for their whole present length last. (No watermark.)
// The first sequence in the order is never preempted, so it ends, and then the next one does:
// nothing starves and nothing deadlocks.
//
// Prefix cache: full blocks are named once a step that computes them has been planned; steps run
// in the order of their plans, so a later plan may read them. At least the last token is always
// computed, for its logits. A request that wants prompt_logprobs does not read the cache.
//
// n > 1: the samples wait until one of them has computed the prompt, then share all its full
// blocks (with prefix caching off as well) and compute the rest of the last block themselves: at
// most block_size tokens, and no block is ever written by one sequence and read by another
// without being complete. If no sample with the prompt runs any more, they start like new ones.
//
// Results come back in the order of the plans, but a plan may be made before the results of the
// one before it (asynchronous scheduling): Sequence::num_pending counts the missing tokens.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "engine/block_pool.h"
#include "engine/prefix_hash.h"
#include "engine/sequence.h"

namespace tiercel::engine {

struct SchedulerOptions {
  int64_t max_length = 0;  // of a sequence, in tokens: min(max_model_len, what the pool holds)
  int64_t max_num_batched_tokens = 0;
  int64_t max_num_seqs = 0;
  int64_t prompt_logit_rows = 0;  // logit rows a step may spend on prompt_logprobs
  int64_t num_blocks = 0;         // with block 0
  int block_size = 128;
  bool enable_prefix_caching = true;
  bool enable_chunked_prefill = true;
  int64_t long_prefill_token_threshold = 0;  // 0: none
  bool by_priority = false;
};

// Rows [start, start + num_tokens) of one sequence.
struct PlanEntry {
  Sequence* sequence = nullptr;
  int64_t start = 0;
  int64_t num_tokens = 0;
  bool samples = false;          // the last row's logits give the next token
  bool prompt_logprobs = false;  // every row's logits are wanted
};

struct StepPlan {
  std::vector<PlanEntry> entries;
  int64_t num_tokens = 0;
  int64_t num_preempted = 0;
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, const PrefixHasher& hasher);

  // Takes a sequence of a request, to wait. It must outlive its stay (until Finish).
  void Add(Sequence* sequence);

  // Plans the next step, as if all earlier plans had run. Empty if there is nothing to compute,
  // which may be because pending tokens have to come back first.
  void Schedule(StepPlan* plan);

  // The first pending token's value. The sequence may have been preempted meanwhile.
  void AppendToken(Sequence* sequence, int32_t token);

  // Takes the sequence out, whatever its state, and frees its blocks. A step that is still in
  // flight may write to them; whatever is planned later runs later.
  void Finish(Sequence* sequence);

  bool ResetPrefixCache() { return pool_.Reset(); }

  const BlockPool& pool() const { return pool_; }
  const SchedulerOptions& options() const { return options_; }
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  uint64_t prefix_queries() const { return prefix_queries_; }  // tokens
  uint64_t prefix_hits() const { return prefix_hits_; }

  // Whether its length allows no further token.
  bool AtLimit(const Sequence& sequence) const;

 private:
  struct Before {
    bool by_priority;
    bool operator()(const Sequence* a, const Sequence* b) const;
  };
  struct Step {
    int64_t tokens_left;
    int64_t prompt_rows_left;
  };
  enum class Sharing { kNone, kWait, kFork };

  void ScheduleRunning(Step* step, StepPlan* plan);
  void ScheduleWaiting(Step* step, StepPlan* plan);
  bool Admit(Sequence* sequence, Step* step, StepPlan* plan);
  int64_t ChunkSize(const Sequence& sequence, int64_t computed, const Step& step) const;
  void Plan(Sequence* sequence, int64_t num_tokens, Step* step, StepPlan* plan);
  bool Grow(Sequence* sequence, int64_t num_tokens);
  void Preempt(Sequence* sequence);
  void ReleaseBlocks(Sequence* sequence);
  void LeaveRunning(Sequence* sequence);

  // The full blocks that need not be computed; references are not taken.
  void FindPrefix(Sequence* sequence, const Sequence* sibling, std::vector<int32_t>* blocks);
  Sharing FindSibling(const Sequence& sequence, const Sequence** sibling) const;
  const BlockHash& HashOf(Sequence* sequence, int64_t block);
  void NameFullBlocks(Sequence* sequence);

  bool WantsPromptLogprobs(const Sequence& sequence, int64_t computed) const;

  SchedulerOptions options_;
  PrefixHasher hasher_;
  BlockPool pool_;
  Before before_;
  std::set<Sequence*, Before> waiting_;
  std::vector<Sequence*> running_;  // in order
  std::vector<int32_t> free_slots_;
  std::vector<int32_t> found_;  // scratch of Admit
  int64_t step_number_ = 0;
  uint64_t prefix_queries_ = 0;
  uint64_t prefix_hits_ = 0;
};

}  // namespace tiercel::engine
