#include "engine/scheduler.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/check.h"

namespace tiercel::engine {

bool Scheduler::Before::operator()(const Sequence* a, const Sequence* b) const {
  const auto key = [this](const Sequence* s) {
    return std::tuple(by_priority ? s->request->priority : 0, s->request->arrival, s->index);
  };
  return key(a) < key(b);
}

Scheduler::Scheduler(const SchedulerOptions& options, const PrefixHasher& hasher)
    : options_(options), hasher_(hasher), pool_(options.num_blocks),
      before_{options.by_priority}, waiting_(before_) {
  CHECK_GT(options_.max_num_batched_tokens, 0);
  CHECK_GT(options_.max_num_seqs, 0);
  CHECK_LE(options_.max_length, pool_.num_usable() * options_.block_size);
  for (int64_t slot = options_.max_num_seqs; slot > 0; --slot) {
    free_slots_.push_back(static_cast<int32_t>(slot - 1));
  }
  running_.reserve(static_cast<size_t>(options_.max_num_seqs));
}

void Scheduler::Add(Sequence* sequence) {
  CHECK_LT(sequence->num_prompt(), options_.max_length);
  sequence->status = SequenceStatus::kWaiting;
  waiting_.insert(sequence);
}

bool Scheduler::AtLimit(const Sequence& sequence) const {
  const int64_t output = static_cast<int64_t>(sequence.output.size()) + sequence.num_pending;
  return output >= sequence.request->params->max_tokens ||
         sequence.num_tokens() >= options_.max_length;
}

void Scheduler::Schedule(StepPlan* plan) {
  plan->entries.clear();
  plan->num_tokens = 0;
  plan->num_preempted = 0;
  ++step_number_;
  Step step{options_.max_num_batched_tokens, options_.prompt_logit_rows};
  ScheduleRunning(&step, plan);
  if (plan->num_preempted == 0) ScheduleWaiting(&step, plan);
  for (const PlanEntry& entry : plan->entries) NameFullBlocks(entry.sequence);
}

void Scheduler::ScheduleRunning(Step* step, StepPlan* plan) {
  for (size_t i = 0; i < running_.size() && step->tokens_left > 0; ++i) {
    Sequence* const sequence = running_[i];
    // Its last token is on the way.
    if (sequence->num_pending > 0 && AtLimit(*sequence)) continue;
    const int64_t count = ChunkSize(*sequence, sequence->num_computed, *step);
    if (count == 0) continue;
    bool grown = Grow(sequence, count);
    while (!grown && running_.back() != sequence) {
      Preempt(running_.back());
      ++plan->num_preempted;
      grown = Grow(sequence, count);
    }
    if (!grown) {
      Preempt(sequence);
      ++plan->num_preempted;
      return;
    }
    Plan(sequence, count, step, plan);
  }
}

void Scheduler::ScheduleWaiting(Step* step, StepPlan* plan) {
  auto it = waiting_.begin();
  while (it != waiting_.end() && step->tokens_left > 0 &&
         num_running() < options_.max_num_seqs) {
    Sequence* const sequence = *it;
    const Sequence* sibling = nullptr;
    // Preempted while its token was on the way: it is the next one in order, but not yet known.
    if (sequence->num_pending > 0 || FindSibling(*sequence, &sibling) == Sharing::kWait) {
      ++it;
      continue;
    }
    FindPrefix(sequence, sibling, &found_);
    const bool first_time = !sequence->ever_admitted;
    if (!Admit(sequence, step, plan)) return;
    if (sibling == nullptr && first_time) {
      prefix_queries_ += static_cast<uint64_t>(sequence->num_known());
      prefix_hits_ += found_.size() * static_cast<uint64_t>(options_.block_size);
    }
    it = waiting_.erase(it);
  }
}

// Admits with the blocks in found_; false if it has to wait.
bool Scheduler::Admit(Sequence* sequence, Step* step, StepPlan* plan) {
  const int64_t cached = static_cast<int64_t>(found_.size()) * options_.block_size;
  const int64_t count = ChunkSize(*sequence, cached, *step);
  if (count == 0) return false;
  if (!options_.enable_chunked_prefill && cached + count < sequence->num_tokens() &&
      !WantsPromptLogprobs(*sequence, cached)) {
    return false;
  }
  // Blocks for the whole present length: half a prompt in the cache helps nobody.
  int64_t needed = (sequence->num_tokens() + options_.block_size - 1) / options_.block_size -
                   static_cast<int64_t>(found_.size());
  for (const int32_t block : found_) needed += !pool_.in_use(block);
  if (needed > pool_.num_free()) return false;

  for (const int32_t block : found_) pool_.AddReference(block);
  sequence->blocks.assign(found_.begin(), found_.end());
  sequence->num_named_blocks = static_cast<int64_t>(found_.size());
  sequence->num_computed = cached;
  if (!std::exchange(sequence->ever_admitted, true)) sequence->num_cached_prompt = cached;
  if (sequence->request->num_cached_tokens < 0) sequence->request->num_cached_tokens = cached;
  sequence->status = SequenceStatus::kRunning;
  sequence->slot = free_slots_.back();
  free_slots_.pop_back();
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, before_), sequence);
  sequence->request->running.push_back(sequence);
  CHECK(Grow(sequence, count));
  Plan(sequence, count, step, plan);
  return true;
}

bool Scheduler::WantsPromptLogprobs(const Sequence& sequence, int64_t computed) const {
  return sequence.index == 0 && sequence.request->params->prompt_logprobs.has_value() &&
         !sequence.request->prompt_logprobs_done && computed < sequence.num_prompt();
}

int64_t Scheduler::ChunkSize(const Sequence& sequence, int64_t computed, const Step& step) const {
  const int64_t rest = sequence.num_tokens() - computed;
  int64_t count = std::min(rest, step.tokens_left);
  if (options_.enable_chunked_prefill && options_.long_prefill_token_threshold > 0) {
    count = std::min(count, options_.long_prefill_token_threshold);
  }
  if (WantsPromptLogprobs(sequence, computed)) {
    // The row that samples has its own logit row in any case.
    const int64_t rows = step.prompt_rows_left;
    count = std::min(count, rest <= rows + 1 ? rest : rows);
  }
  return count;
}

void Scheduler::Plan(Sequence* sequence, int64_t num_tokens, Step* step, StepPlan* plan) {
  PlanEntry entry;
  entry.sequence = sequence;
  entry.start = sequence->num_computed;
  entry.num_tokens = num_tokens;
  entry.samples = entry.start + num_tokens == sequence->num_tokens();
  entry.prompt_logprobs = WantsPromptLogprobs(*sequence, entry.start);
  if (entry.prompt_logprobs) {
    step->prompt_rows_left -= num_tokens - (entry.samples ? 1 : 0);
    if (entry.start + num_tokens >= sequence->num_prompt()) {
      sequence->request->prompt_logprobs_done = true;
    }
  }
  step->tokens_left -= num_tokens;
  plan->num_tokens += num_tokens;
  plan->entries.push_back(entry);
  sequence->last_step = step_number_;
  sequence->computed_before_last_step = entry.start;
  sequence->num_computed += num_tokens;
  if (entry.samples) ++sequence->num_pending;
}

bool Scheduler::Grow(Sequence* sequence, int64_t num_tokens) {
  const int64_t total = (sequence->num_computed + num_tokens + options_.block_size - 1) /
                        options_.block_size;
  const int64_t more = total - static_cast<int64_t>(sequence->blocks.size());
  if (more > pool_.num_free()) return false;
  for (int64_t i = 0; i < more; ++i) sequence->blocks.push_back(pool_.Allocate());
  return true;
}

void Scheduler::ReleaseBlocks(Sequence* sequence) {
  NameFullBlocks(sequence);
  for (auto it = sequence->blocks.rbegin(); it != sequence->blocks.rend(); ++it) {
    pool_.Release(*it);
  }
  sequence->blocks.clear();
  sequence->num_named_blocks = 0;
  sequence->num_computed = 0;
}

void Scheduler::LeaveRunning(Sequence* sequence) {
  ReleaseBlocks(sequence);
  free_slots_.push_back(sequence->slot);
  sequence->slot = -1;
  running_.erase(std::find(running_.begin(), running_.end(), sequence));
  std::erase(sequence->request->running, sequence);
}

void Scheduler::Preempt(Sequence* sequence) {
  LeaveRunning(sequence);
  ++sequence->num_preemptions;
  sequence->status = SequenceStatus::kWaiting;
  waiting_.insert(sequence);
}

void Scheduler::AppendToken(Sequence* sequence, int32_t token) {
  CHECK_GE(sequence->num_pending, 1);
  --sequence->num_pending;
  sequence->output.push_back(token);
}

void Scheduler::Finish(Sequence* sequence) {
  if (sequence->status == SequenceStatus::kRunning) LeaveRunning(sequence);
  if (sequence->status == SequenceStatus::kWaiting) waiting_.erase(sequence);
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
    std::vector<int32_t> tokens(static_cast<size_t>(size));
    for (int64_t j = 0; j < size; ++j) {
      tokens[static_cast<size_t>(j)] = sequence->token(i * size + j);
    }
    sequence->hashes.push_back(hasher_.Next(parent(i), tokens));
  }
  return sequence->hashes[static_cast<size_t>(block - prompt_blocks)];
}

void Scheduler::NameFullBlocks(Sequence* sequence) {
  if (!options_.enable_prefix_caching) return;
  const int64_t full =
      std::min(sequence->num_computed, sequence->num_known()) / options_.block_size;
  for (int64_t& i = sequence->num_named_blocks; i < full; ++i) {
    pool_.SetName(sequence->blocks[static_cast<size_t>(i)], HashOf(sequence, i));
  }
}

Scheduler::Sharing Scheduler::FindSibling(const Sequence& sequence,
                                          const Sequence** sibling) const {
  const int64_t prompt_blocks = sequence.num_prompt() / options_.block_size;
  Sharing sharing = Sharing::kNone;
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

void Scheduler::FindPrefix(Sequence* sequence, const Sequence* sibling,
                           std::vector<int32_t>* blocks) {
  blocks->clear();
  const int64_t limit = (sequence->num_tokens() - 1) / options_.block_size;
  if (sibling != nullptr) {
    const int64_t shared = std::min(limit, sequence->num_prompt() / options_.block_size);
    blocks->assign(sibling->blocks.begin(), sibling->blocks.begin() + shared);
  }
  if (!options_.enable_prefix_caching || WantsPromptLogprobs(*sequence, 0)) return;
  for (int64_t i = static_cast<int64_t>(blocks->size()); i < limit; ++i) {
    const std::optional<int32_t> block = pool_.Find(HashOf(sequence, i));
    if (!block) break;
    blocks->push_back(*block);
  }
}

}  // namespace tiercel::engine
