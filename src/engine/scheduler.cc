#include "engine/scheduler.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/check.h"

namespace tiercel::engine {
namespace {

// Whether more than its next token is to be computed.
bool OwesPrompt(const Sequence& sequence) {
  return sequence.num_tokens() - sequence.num_computed > 1;
}
bool Decodes(const Sequence& sequence) { return sequence.num_tokens() - sequence.num_computed == 1; }

// Shorter parts of prompts would read the weights too often for the little that they compute.
constexpr int64_t kFewestTokens = 512;

// How much a verified guess says about the next ones, and a step without any, after which it is tried again.
constexpr double kDraftMemory = 0.125, kDraftMemoryOfAll = 0.01, kDraftRecovery = 1.0 / 64;

// Of `count` guesses so many should be right.
double ExpectedRight(double rate, int64_t count) {
  double right = 0, all = 1;
  for (int64_t i = 0; i < count; ++i) right += all *= rate;
  return right;
}

int64_t StepTokens(const SchedulerOptions& options) {
  const int64_t all = options.max_num_batched_tokens;
  if (!options.enable_chunked_prefill) return all;
  return std::min(all, std::max(kFewestTokens, all / options.steps_under_way));
}

}  // namespace

bool Scheduler::Before::operator()(const RequestState* a, const RequestState* b) const {
  const auto key = [this](const RequestState* r) {
    return std::pair(by_priority ? r->priority : 0, r->arrival);
  };
  return key(a) < key(b);
}

bool Scheduler::Before::operator()(const Sequence* a, const Sequence* b) const {
  return a->request == b->request ? a->index < b->index : (*this)(a->request, b->request);
}

Scheduler::Scheduler(const SchedulerOptions& options, const PrefixHasher& hasher,
                     const StepCost* cost)
    : options_(options), step_tokens_(StepTokens(options)), hasher_(hasher), pool_(options.num_blocks),
      cost_(cost), planner_(cost, options.target_itl / options.steps_under_way, step_tokens_),
      before_{options.by_priority}, queue_(before_) {
  CHECK_GT(options_.max_num_batched_tokens, 0);
  CHECK_GT(options_.max_num_seqs, 0);
  CHECK_LE(options_.max_length, pool_.num_usable() * options_.block_size);
  if (options_.drafts) {
    CHECK_EQ(options_.steps_under_way, 1);
    drafter_.emplace(*options_.drafts, options_.max_length);
  }
  free_slots_.reserve(static_cast<size_t>(options_.max_num_seqs));
  for (int64_t slot = options_.max_num_seqs; slot > 0; --slot) {
    free_slots_.push_back(static_cast<int32_t>(slot - 1));
  }
  running_.reserve(static_cast<size_t>(options_.max_num_seqs));
  nodes_.reserve(static_cast<size_t>(options_.max_num_seqs));
  found_.reserve(static_cast<size_t>(BlocksFor(options_.max_length)));
  block_tokens_.resize(static_cast<size_t>(options_.block_size));
}

int64_t Scheduler::BlocksFor(int64_t num_tokens) const {
  return (num_tokens + options_.block_size - 1) / options_.block_size;
}

void Scheduler::Add(RequestState* request) {
  const auto prompt = static_cast<int64_t>(request->prompt.size());
  CHECK_LE(prompt + (request->pooling != nullptr ? 0 : 1), options_.max_length);
  const int64_t longest = std::min(options_.max_length, prompt + request->max_tokens());
  request->prompt_hashes.reserve(request->prompt.size() / options_.block_size);
  request->running.reserve(request->sequences.size());
  request->waiting.reserve(request->sequences.size());
  for (const auto& sequence : request->sequences) {
    sequence->blocks.reserve(static_cast<size_t>(BlocksFor(longest)));
    sequence->draft_rate = draft_rate_;
    if (drafter_) sequence->drafts.reserve(static_cast<size_t>(options_.drafts->num_tokens));
  }
  queue_.insert(request);
  for (const auto& sequence : request->sequences) {
    sequence->status = SequenceStatus::kWaiting;
    request->waiting.push_back(sequence.get());
  }
  num_waiting_ += static_cast<int64_t>(request->sequences.size());
}

bool Scheduler::AtLimit(const Sequence& sequence) const {
  const int64_t output = static_cast<int64_t>(sequence.output.size()) + sequence.num_pending;
  return output >= sequence.request->max_tokens() ||
         sequence.num_tokens() >= options_.max_length;
}

void Scheduler::Schedule(StepPlan* plan) {
  plan->entries.clear();
  plan->work = {};
  plan->num_preempted = 0;
  ++step_number_;
  ScheduleDecodes(plan);
  plan->num_streams = static_cast<int64_t>(plan->entries.size());
  if (drafter_) AddDrafts(plan);
  plan->num_stream_rows = plan->work.rows;
  planner_.Begin(plan->work, plan->num_streams, NumPrompts());
  SchedulePrompts(plan);
  plan->waiting = plan->num_preempted > 0 ? Waiting::kPreempted : ScheduleWaiting(plan);
  for (const PlanEntry& entry : plan->entries) NameFullBlocks(entry.sequence);
  if (plan->entries.empty()) --step_number_;  // there is no such step
}

bool Scheduler::MayDecode(const Sequence& sequence) const {
  if (!Decodes(sequence)) return false;
  if (sequence.num_pending == 0) return true;
  // Its last token is on the way, or one that the step would find missing.
  return !AtLimit(sequence) && sequence.last_step + options_.steps_under_way <= step_number_;
}

void Scheduler::ScheduleDecodes(StepPlan* plan) {
  const auto streams = std::count_if(running_.begin(), running_.end(), [](const Sequence* s) { return Decodes(*s); });
  const int64_t share = (streams + options_.steps_under_way - 1) / options_.steps_under_way;
  const int64_t most = std::min(share, TokensLeft(*plan));
  for (size_t i = 0; i < running_.size() && plan->work.rows < most; ++i) {
    Sequence* const sequence = running_[i];
    if (MayDecode(*sequence) && MakeRoom(sequence, plan)) Plan(sequence, 1, plan);
  }
}

void Scheduler::AddDrafts(StepPlan* plan) {
  double tokens = static_cast<double>(plan->num_streams);  // that the step should give
  for (PlanEntry& entry : plan->entries) {
    Sequence* const sequence = entry.sequence;
    const int64_t output = static_cast<int64_t>(sequence->output.size()) + sequence->num_pending;
    const int64_t most = std::min({options_.drafts->num_tokens, sequence->request->max_tokens() - output,
                                   options_.max_length - sequence->num_tokens(), TokensLeft(*plan)});
    drafter_->Guess(sequence->request->prompt, sequence->output, most, &sequence->drafts);
    int64_t count = DraftsThatPay(entry, std::ssize(sequence->drafts), tokens, plan->work);
    if (!Grow(sequence, sequence->num_computed + count)) {
      count = std::min(count, std::ssize(sequence->blocks) * options_.block_size - sequence->num_computed);
    }
    sequence->drafts.resize(static_cast<size_t>(count));
    tokens += ExpectedRight(sequence->draft_rate, count);
    plan->work.Extend(entry.start, entry.num_tokens, count);
    entry.num_tokens += count;
    entry.num_drafts = count;
    sequence->num_computed += count;
    sequence->num_pending += count;
    if (count == 0) sequence->draft_rate += kDraftRecovery * (draft_rate_ - sequence->draft_rate);
  }
}

// All, or a half or a quarter of them, …, or none: as many as let the step, which has `work` and should give `tokens`
// without them, give the most in the same time. What a number of rows takes is found out by a step that has it.
int64_t Scheduler::DraftsThatPay(const PlanEntry& entry, int64_t most, double tokens, const StepWork& work) const {
  if (cost_ == nullptr || !cost_->known()) return most;
  int64_t best = 0;
  double best_rate = tokens / cost_->Seconds(work);
  for (int64_t count = most; count > 0; count /= 2) {
    StepWork with = work;
    with.Extend(entry.start, entry.num_tokens, count);
    if (!cost_->Measured(work.rows) || !cost_->Measured(with.rows)) return count;
    const double rate = (tokens + ExpectedRight(entry.sequence->draft_rate, count)) / cost_->Seconds(with);
    if (rate <= best_rate) continue;
    best = count;
    best_rate = rate;
  }
  return best;
}

// Blocks for a decode's next token, from later sequences if there are none: these are not planned
// yet. False if it had to give up its own.
bool Scheduler::MakeRoom(Sequence* sequence, StepPlan* plan) {
  while (!Grow(sequence, sequence->num_computed + 1)) {
    Sequence* const last = running_.back();
    Preempt(last);
    ++plan->num_preempted;
    if (last == sequence) return false;
  }
  return true;
}

void Scheduler::SchedulePrompts(StepPlan* plan) {
  for (size_t i = 0; i < running_.size() && TokensLeft(*plan) > 0; ++i) {
    Sequence* const sequence = running_[i];
    if (sequence->last_step == step_number_ || !OwesPrompt(*sequence)) continue;
    const int64_t count = ChunkSize(*sequence, sequence->num_computed, *plan);
    if (count == 0) return;
    Plan(sequence, count, plan);
  }
}

// Prompts that run or could be let in.
int64_t Scheduler::NumPrompts() const {
  const auto running = std::count_if(running_.begin(), running_.end(), [](const Sequence* sequence) {
    return OwesPrompt(*sequence);
  });
  return running + std::min(num_waiting_, options_.max_num_seqs - num_running());
}

Waiting Scheduler::ScheduleWaiting(StepPlan* plan) {
  for (auto it = queue_.begin(); it != queue_.end();) {
    RequestState* const request = *it;
    const Waiting reason = AdmitFrom(request, plan);
    if (request->waiting.empty()) {
      nodes_.push_back(queue_.extract(it++));
    } else {
      ++it;
    }
    if (reason != Waiting::kNothing) return reason;
  }
  return Waiting::kNothing;
}

// Admits the request's sequences as far as they need not wait for each other.
Waiting Scheduler::AdmitFrom(RequestState* request, StepPlan* plan) {
  for (size_t i = 0; i < request->waiting.size();) {
    Sequence* const sequence = request->waiting[i];
    // Preempted while its token was on the way: it is the next one in order, but not yet known.
    if (sequence->num_pending > 0) {
      ++i;
      continue;
    }
    const Sequence* sibling = nullptr;
    if (FindSibling(*sequence, &sibling) == Sharing::kWait) break;
    const Waiting reason = Admit(sequence, sibling, plan);
    if (reason != Waiting::kNothing) return reason;
  }
  return Waiting::kNothing;
}

Waiting Scheduler::Admit(Sequence* sequence, const Sequence* sibling, StepPlan* plan) {
  if (num_running() == options_.max_num_seqs) return Waiting::kSequences;
  if (TokensLeft(*plan) <= 0) return Waiting::kBudget;
  FindPrefix(sequence, sibling);
  const int64_t cached = static_cast<int64_t>(found_.size()) * options_.block_size;
  const int64_t count = ChunkSize(*sequence, cached, *plan);
  if (count == 0 ||
      (!options_.enable_chunked_prefill && cached + count < sequence->num_tokens())) {
    return Waiting::kBudget;
  }
  int64_t needed = BlocksFor(sequence->num_tokens()) - static_cast<int64_t>(found_.size());
  for (const int32_t block : found_) needed += !pool_.in_use(block);
  if (needed > pool_.num_free()) return Waiting::kBlocks;

  LeaveQueue(sequence);
  for (const int32_t block : found_) pool_.AddReference(block);
  sequence->blocks.assign(found_.begin(), found_.end());
  sequence->num_named_blocks = static_cast<int64_t>(found_.size());
  sequence->num_computed = cached;
  const bool first_time = !std::exchange(sequence->ever_admitted, true);
  if (first_time) sequence->num_cached_prompt = cached;
  if (sequence->request->num_cached_tokens < 0) sequence->request->num_cached_tokens = cached;
  if (first_time && sibling == nullptr && options_.enable_prefix_caching) {
    prefix_queries_ += static_cast<uint64_t>(sequence->num_known());
    prefix_hits_ += static_cast<uint64_t>(cached);
  }
  sequence->status = SequenceStatus::kRunning;
  sequence->slot = free_slots_.back();
  sequence->stay = ++num_stays_;
  free_slots_.pop_back();
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, before_), sequence);
  sequence->request->running.push_back(sequence);
  CHECK(Grow(sequence, sequence->num_tokens()));
  Plan(sequence, count, plan);
  return Waiting::kNothing;
}

int64_t Scheduler::ChunkSize(const Sequence& sequence, int64_t computed, const StepPlan& plan) {
  const int64_t left = sequence.num_tokens() - computed;
  int64_t most = std::min(left, TokensLeft(plan));
  if (!options_.enable_chunked_prefill) return most;
  if (options_.long_prefill_token_threshold > 0) {
    most = std::min(most, options_.long_prefill_token_threshold);
  }
  return planner_.Part(plan.work,
                       {computed, left, StreamsToSpare(sequence, plan),
                        ShorterPromptBehind(sequence, left)},
                       most);
}

// Streams that would wait for the sequence's prompt and are not less important than it.
int64_t Scheduler::StreamsToSpare(const Sequence& sequence, const StepPlan& plan) const {
  if (!options_.by_priority) return plan.num_streams;
  return std::count_if(plan.entries.begin(), plan.entries.begin() + plan.num_streams,
                       [&sequence](const PlanEntry& entry) {
                         return entry.sequence->request->priority <= sequence.request->priority;
                       });
}

// Whether a prompt that runs, or is among the next to be let in, has at most a quarter of so many
// tokens to go.
bool Scheduler::ShorterPromptBehind(const Sequence& sequence, int64_t left) const {
  constexpr int64_t kTimes = 4;
  constexpr int kNext = 16;
  for (const Sequence* other : running_) {
    if (OwesPrompt(*other) && before_(&sequence, other) &&
        kTimes * (other->num_tokens() - other->num_computed) <= left) {
      return true;
    }
  }
  if (num_running() == options_.max_num_seqs || queue_.empty()) return false;
  if (BlocksFor((*queue_.begin())->waiting.front()->num_tokens()) > pool_.num_free()) return false;
  int looked_at = 0;
  for (const RequestState* request : queue_) {
    const Sequence& other = *request->waiting.front();
    if (&other != &sequence && kTimes * other.num_tokens() <= left) return true;
    if (++looked_at == kNext) return false;
  }
  return false;
}

void Scheduler::Plan(Sequence* sequence, int64_t num_tokens, StepPlan* plan) {
  RequestState& request = *sequence->request;
  PlanEntry entry;
  entry.sequence = sequence;
  entry.start = sequence->num_computed;
  entry.num_tokens = num_tokens;
  const int64_t end = entry.start + num_tokens;
  entry.samples = end == sequence->num_tokens();
  if (request.OwesPromptRows() && end > request.num_prompt_rows_planned) {
    CHECK_LE(entry.start, request.num_prompt_rows_planned);
    entry.first_prompt_row = request.num_prompt_rows_planned;
    entry.end_prompt_row = std::min(end, sequence->num_prompt() - 1);
    request.num_prompt_rows_planned = entry.end_prompt_row;
  }
  plan->work.Add(entry.start, num_tokens);
  plan->entries.push_back(entry);
  sequence->last_step = step_number_;
  sequence->computed_before_last_step = entry.start;
  sequence->num_computed = end;
  if (entry.samples) ++sequence->num_pending;
}

// Blocks for so many tokens; false if there are not enough, and then nothing has changed.
bool Scheduler::Grow(Sequence* sequence, int64_t total_tokens) {
  const int64_t more = BlocksFor(total_tokens) - static_cast<int64_t>(sequence->blocks.size());
  if (more > pool_.num_free()) return false;
  for (int64_t i = 0; i < more; ++i) sequence->blocks.push_back(pool_.Allocate());
  return true;
}

void Scheduler::LeaveRunning(Sequence* sequence) {
  NameFullBlocks(sequence);
  for (auto it = sequence->blocks.rbegin(); it != sequence->blocks.rend(); ++it) {
    pool_.Release(*it);
  }
  sequence->blocks.clear();
  sequence->num_named_blocks = 0;
  sequence->num_computed = 0;
  free_slots_.push_back(sequence->slot);
  sequence->slot = -1;
  running_.erase(std::find(running_.begin(), running_.end(), sequence));
  std::erase(sequence->request->running, sequence);
  if (nodes_.size() > running_.size()) nodes_.pop_back();
}

void Scheduler::Preempt(Sequence* sequence) {
  if (sequence->request->waiting.empty()) {
    nodes_.back().value() = sequence->request;
    queue_.insert(std::move(nodes_.back()));
    nodes_.pop_back();
  }
  LeaveRunning(sequence);
  ++sequence->num_preemptions;
  ++num_preempted_;
  sequence->status = SequenceStatus::kWaiting;
  std::vector<Sequence*>& waiting = sequence->request->waiting;
  waiting.insert(std::upper_bound(waiting.begin(), waiting.end(), sequence, before_), sequence);
  ++num_waiting_;
}

void Scheduler::LeaveQueue(Sequence* sequence) {
  std::erase(sequence->request->waiting, sequence);
  --num_waiting_;
}

void Scheduler::AppendToken(Sequence* sequence, int32_t token) {
  CHECK_GE(sequence->num_pending, 1);
  sequence->output.push_back(token);
  --sequence->num_pending;
}

void Scheduler::Verified(Sequence* sequence, int64_t right, int64_t wrong) {
  sequence->num_pending -= wrong;
  sequence->num_computed -= wrong;
  // Of the wrong ones only the first was verified.
  for (int64_t i = 0; i < right + std::min<int64_t>(wrong, 1); ++i) {
    const double was_right = i < right ? 1 : 0;
    sequence->draft_rate += kDraftMemory * (was_right - sequence->draft_rate);
    draft_rate_ += kDraftMemoryOfAll * (was_right - draft_rate_);
  }
}

void Scheduler::Finish(Sequence* sequence) {
  if (sequence->status == SequenceStatus::kRunning) LeaveRunning(sequence);
  if (sequence->status == SequenceStatus::kWaiting) {
    LeaveQueue(sequence);
    RequestState* const request = sequence->request;
    if (request->waiting.empty()) {
      Queue::node_type node = queue_.extract(request);
      if (nodes_.size() < running_.size()) nodes_.push_back(std::move(node));
    }
  }
  sequence->status = SequenceStatus::kFinished;
}

const BlockHash& Scheduler::HashOf(Sequence* sequence, int64_t block) {
  const int64_t size = options_.block_size;
  RequestState& request = *sequence->request;
  const int64_t prompt_blocks = sequence->num_prompt() / size;
  const auto parent = [&](int64_t i) -> BlockHash {
    if (i == 0) return hasher_.Root(request.cache_salt);
    return i <= prompt_blocks ? request.prompt_hashes[static_cast<size_t>(i - 1)]
                              : sequence->hashes[static_cast<size_t>(i - 1 - prompt_blocks)];
  };
  while (static_cast<int64_t>(request.prompt_hashes.size()) < std::min(block + 1, prompt_blocks)) {
    const int64_t i = static_cast<int64_t>(request.prompt_hashes.size());
    request.prompt_hashes.push_back(hasher_.Next(
        parent(i), std::span(request.prompt).subspan(static_cast<size_t>(i * size),
                                                     static_cast<size_t>(size))));
  }
  if (block < prompt_blocks) return request.prompt_hashes[static_cast<size_t>(block)];
  while (static_cast<int64_t>(sequence->hashes.size()) < block + 1 - prompt_blocks) {
    const int64_t i = prompt_blocks + static_cast<int64_t>(sequence->hashes.size());
    for (int64_t j = 0; j < size; ++j) {
      block_tokens_[static_cast<size_t>(j)] = sequence->token(i * size + j);
    }
    sequence->hashes.push_back(hasher_.Next(parent(i), block_tokens_));
  }
  return sequence->hashes[static_cast<size_t>(block - prompt_blocks)];
}

void Scheduler::NameFullBlocks(Sequence* sequence) {
  if (!options_.enable_prefix_caching) return;
  const int64_t full =
      std::min(sequence->num_computed, sequence->num_known()) / options_.block_size;
  try {
    for (int64_t& i = sequence->num_named_blocks; i < full; ++i) {
      pool_.SetName(sequence->blocks[static_cast<size_t>(i)], HashOf(sequence, i));
    }
  } catch (const std::bad_alloc&) {
    // The next step tries again.
  }
}

Scheduler::Sharing Scheduler::FindSibling(const Sequence& sequence,
                                          const Sequence** sibling) const {
  const int64_t prompt_blocks = sequence.num_prompt() / options_.block_size;
  Sharing sharing = Sharing::kNone;
  if (!sequence.request->running.empty() && sequence.request->OwesPromptRows()) {
    return Sharing::kWait;
  }
  for (const Sequence* other : sequence.request->running) {
    const int64_t computed = other->last_step == step_number_ ? other->computed_before_last_step
                                                              : other->num_computed;
    if (computed >= prompt_blocks * options_.block_size) {
      *sibling = other;
      return Sharing::kFork;
    }
    sharing = Sharing::kWait;
  }
  return sharing;
}

void Scheduler::FindPrefix(Sequence* sequence, const Sequence* sibling) {
  const RequestState& request = *sequence->request;
  found_.clear();
  int64_t limit = (sequence->num_tokens() - 1) / options_.block_size;
  if (request.OwesPromptRows()) {
    limit = std::min(limit, request.num_prompt_rows_planned / options_.block_size);
  }
  if (sibling != nullptr) {
    const int64_t shared = std::min(limit, sequence->num_prompt() / options_.block_size);
    found_.assign(sibling->blocks.begin(), sibling->blocks.begin() + shared);
  }
  if (!options_.enable_prefix_caching) return;
  try {
    for (int64_t i = static_cast<int64_t>(found_.size()); i < limit; ++i) {
      const std::optional<int32_t> block = pool_.Find(HashOf(sequence, i));
      if (!block) break;
      found_.push_back(*block);
    }
  } catch (const std::bad_alloc&) {
    // What was not found is computed.
  }
}

}  // namespace tiercel::engine
