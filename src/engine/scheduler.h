// Scheduler: which tokens the next step computes. Pure logic: no tensors, threads, time or I/O.
//
// Each step has one token budget:
//   1. Every running sequence that needs one token (a decode) gets it, whatever its order: nobody's
//      prompt stops another one's stream.
//   2. Running sequences whose prompt is not yet computed get their next chunk of it, in order.
//   3. If nothing was preempted, waiting sequences are admitted in order while the budget,
//      max_num_seqs and the blocks for their whole present length last. An admitted sequence gets all
//      these blocks at once, so that no two prompts are let in that only one has room for.
// How large the chunks are, and how many prompts a step has, PrefillPlanner says.
// One order rules who is admitted and who is preempted: under kFcfs that of arrival, under kPriority
// (priority, arrival), the samples of a request by index. Where a decode finds no block, the last
// running sequence is preempted: it gives up its blocks, waits again and is later computed anew
// (from the prefix cache, as far as that still holds it). The first sequence in the order is never
// preempted, so it ends, and then the next one does: nothing starves and nothing deadlocks.
//
// Of a model in stages, several steps are under way, on different stages, and a sampled token is there for the step that many
// later: until then its sequence waits, and each step takes its share of the streams and of the budget, so that there are
// others for the steps between.
//
// Prefix cache: full blocks are named once a step that computes them has been planned; steps run
// in the order of their plans, so a later plan may read them. At least the last token is always
// computed, for its logits. A request that wants prompt_logprobs computes every prompt token whose
// log-probabilities it still owes, once, whatever the cache holds.
//
// n > 1: the samples wait until one of them has computed the prompt, then share all its full
// blocks (with prefix caching off as well) and compute the rest of the last block themselves: at
// most block_size tokens, and no block is ever written by one sequence and read by another
// without being complete. If no sample with the prompt runs any more, they start like new ones. No
// sample starts while another one that runs owes log-probabilities of the prompt, so these are
// planned before, or within, the step that samples the request's first token.
//
// Guesses (drafts): a decode may take, beside its token, guesses of those that follow, and every row then samples; guesses
// that turn out wrong are taken back. They get no blocks that others would have to give up, and where the cost of steps
// is known only as many rows as should give tokens faster than the step does without them. A sequence is not planned
// again before its guesses are verified.
//
// Results come back in the order of the plans, but a plan may be made before the results of the
// one before it (asynchronous scheduling): Sequence::num_pending counts the missing tokens.
//
// Memory: after Add nothing here fails for want of memory. What would grow has room since Add, and a
// block that cannot be named for lack of memory is only not found again.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "engine/block_pool.h"
#include "engine/ngram_drafter.h"
#include "engine/prefill_planner.h"
#include "engine/prefix_hash.h"
#include "engine/sequence.h"
#include "engine/step_cost.h"

namespace tiercel::engine {

struct SchedulerOptions {
  int64_t max_length = 0;  // of a sequence, in tokens: min(max_model_len, what the pool holds)
  int64_t max_num_batched_tokens = 0;
  int64_t max_num_seqs = 0;
  int64_t num_blocks = 0;  // with block 0
  int block_size = 128;
  bool enable_prefix_caching = true;
  bool enable_chunked_prefill = true;
  int64_t long_prefill_token_threshold = 0;  // 0: none
  bool by_priority = false;
  double target_itl = 0;  // seconds between two tokens of a stream while prompts come; 0: no such target
  int steps_under_way = 1;
  std::optional<DraftOptions> drafts;  // then every step's results come back before the next one is planned
};

// Rows [start, start + num_tokens) of one sequence.
struct PlanEntry {
  Sequence* sequence = nullptr;
  int64_t start = 0;
  int64_t num_tokens = 0;
  bool samples = false;  // the last row's logits give the next token,
  int64_t num_drafts = 0;  // and so do those of as many rows before it: the last rows' inputs are Sequence::drafts
  // The rows whose logits give log-probabilities of the prompt's next tokens; empty: none.
  int64_t first_prompt_row = 0, end_prompt_row = 0;
};

// Why the first sequence that still waits was not admitted.
enum class Waiting {
  kNothing,    // none waits, or only for other samples of their requests
  kBudget,     // the step has no room left (or without chunked prefill not enough)
  kSequences,  // max_num_seqs run
  kBlocks,     // its present length needs more blocks than are free
  kPreempted,  // this step took blocks from running sequences
};

struct StepPlan {
  std::vector<PlanEntry> entries;
  StepWork work;
  int64_t num_streams = 0;  // of the entries the first, which decode,
  int64_t num_stream_rows = 0;  // with so many rows
  int64_t num_preempted = 0;
  Waiting waiting = Waiting::kNothing;
};

class Scheduler {
 public:
  // `cost` outlives the scheduler; null: steps are not cut for the sake of their time.
  Scheduler(const SchedulerOptions& options, const PrefixHasher& hasher,
            const StepCost* cost = nullptr);

  // Takes a request's sequences, to wait. It must outlive their stay (until Finish of each). Throws
  // std::bad_alloc, and then nothing has changed.
  void Add(RequestState* request);

  // Plans the next step, as if all earlier plans had run. Empty if there is nothing to compute,
  // which may be because pending tokens have to come back first.
  void Schedule(StepPlan* plan);

  // The first pending token's value. The sequence may have been preempted meanwhile.
  void AppendToken(Sequence* sequence, int32_t token);

  // Of a step's guesses the last `wrong` ones are, and the `right` first ones right: what was planned with those is taken
  // back. To be called before its tokens are appended.
  void Verified(Sequence* sequence, int64_t right, int64_t wrong);

  // Takes the sequence out, whatever its state, and frees its blocks. A step that is still in
  // flight may write to them; whatever is planned later runs later.
  void Finish(Sequence* sequence);

  bool ResetPrefixCache() { return pool_.Reset(); }

  const BlockPool& pool() const { return pool_; }
  const PrefillPlanner& planner() const { return planner_; }
  // A step of prompts beside streams has taken so long. To be called before the cost learns it.
  void MixedStepTook(const StepWork& work, double seconds) { planner_.Took(work, seconds); }
  const SchedulerOptions& options() const { return options_; }
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return num_waiting_; }
  uint64_t num_preempted() const { return num_preempted_; }    // in all
  uint64_t prefix_queries() const { return prefix_queries_; }  // tokens
  uint64_t prefix_hits() const { return prefix_hits_; }

  // Whether its length allows no further token.
  bool AtLimit(const Sequence& sequence) const;

 private:
  struct Before {
    bool by_priority;
    bool operator()(const RequestState* a, const RequestState* b) const;
    bool operator()(const Sequence* a, const Sequence* b) const;
  };
  using Queue = std::set<RequestState*, Before>;
  enum class Sharing { kNone, kWait, kFork };

  bool MayDecode(const Sequence& sequence) const;
  void ScheduleDecodes(StepPlan* plan);
  void AddDrafts(StepPlan* plan);
  int64_t DraftsThatPay(const PlanEntry& entry, int64_t most, double tokens, const StepWork& work) const;
  void SchedulePrompts(StepPlan* plan);
  Waiting ScheduleWaiting(StepPlan* plan);
  Waiting AdmitFrom(RequestState* request, StepPlan* plan);
  Waiting Admit(Sequence* sequence, const Sequence* sibling, StepPlan* plan);
  int64_t NumPrompts() const;
  int64_t ChunkSize(const Sequence& sequence, int64_t computed, const StepPlan& plan);
  int64_t StreamsToSpare(const Sequence& sequence, const StepPlan& plan) const;
  bool ShorterPromptBehind(const Sequence& sequence, int64_t left) const;
  int64_t BlocksFor(int64_t num_tokens) const;
  int64_t TokensLeft(const StepPlan& plan) const {
    return step_tokens_ - plan.work.rows;
  }
  void Plan(Sequence* sequence, int64_t num_tokens, StepPlan* plan);
  bool Grow(Sequence* sequence, int64_t total_tokens);
  bool MakeRoom(Sequence* sequence, StepPlan* plan);
  void Preempt(Sequence* sequence);
  void LeaveQueue(Sequence* sequence);
  void LeaveRunning(Sequence* sequence);

  // The full blocks that need not be computed; references are not taken.
  void FindPrefix(Sequence* sequence, const Sequence* sibling);
  Sharing FindSibling(const Sequence& sequence, const Sequence** sibling) const;
  const BlockHash& HashOf(Sequence* sequence, int64_t block);
  void NameFullBlocks(Sequence* sequence);

  SchedulerOptions options_;
  const int64_t step_tokens_;  // of max_num_batched_tokens what one step may take
  PrefixHasher hasher_;
  BlockPool pool_;
  const StepCost* const cost_;
  PrefillPlanner planner_;
  std::optional<NgramDrafter> drafter_;
  // Of all sequences' guesses those that were right, lately: what a new one's are taken to be worth.
  double draft_rate_ = 0.5;
  Before before_;
  Queue queue_;                             // the requests with waiting sequences
  // Nodes kept from queue_, at least one for each request that runs and has nothing in the queue, at
  // most one for each running sequence: a preemption allocates nothing.
  std::vector<Queue::node_type> nodes_;
  int64_t num_waiting_ = 0;                 // sequences
  std::vector<Sequence*> running_;          // in order
  std::vector<int32_t> free_slots_;
  std::vector<int32_t> found_;        // FindPrefix's blocks
  std::vector<int32_t> block_tokens_;  // scratch of HashOf
  int64_t step_number_ = 0;
  int64_t num_stays_ = 0;
  uint64_t num_preempted_ = 0;
  uint64_t prefix_queries_ = 0;
  uint64_t prefix_hits_ = 0;
};

}  // namespace tiercel::engine
