// A random walk over the scheduler's operations. A plain model of the cache is kept beside it:
// every block has an owner's content, and each plan must read what was written.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>

#include "engine/made_up_machine.h"
#include "engine/scheduler.h"

namespace tiercel::engine {
namespace {

class RandomWalk {
 public:
  explicit RandomWalk(uint32_t seed) : random_(seed) {
    SchedulerOptions o;
    o.block_size = 1 + static_cast<int>(random_() % 5);
    o.num_blocks = 8 + static_cast<int64_t>(random_() % 40);
    o.max_length = std::min<int64_t>((o.num_blocks - 1) * o.block_size, 60);
    o.max_num_seqs = 1 + static_cast<int64_t>(random_() % 8);
    o.enable_chunked_prefill = random_() % 4 != 0;
    o.max_num_batched_tokens = o.enable_chunked_prefill
                                   ? o.max_num_seqs + static_cast<int64_t>(random_() % 20)
                                   : std::max(o.max_length, o.max_num_seqs);
    o.enable_prefix_caching = random_() % 3 != 0;
    o.long_prefill_token_threshold = random_() % 3 == 0 ? 4 : 0;
    o.by_priority = random_() % 2;
    if (random_() % 3 == 0) {
      o.drafts = {.num_tokens = 1 + static_cast<int64_t>(random_() % 6), .lookup_min = 1, .lookup_max = 2};
    } else {
      o.steps_under_way = random_() % 2 ? 1 : 2 + static_cast<int>(random_() % 2);
      most_in_flight_ = static_cast<size_t>(o.steps_under_way) - random_() % 2;  // one fewer without async scheduling
    }
    o.target_itl = random_() % 2 ? 0.03 : 0;
    if (random_() % 2) Train(LinearMachine(1 + random_() % 20, 1 + random_() % 3000), &cost_);
    scheduler_ = std::make_unique<Scheduler>(o, PrefixHasher(seed, 1), &cost_);
    cache_.resize(static_cast<size_t>(o.num_blocks * o.block_size), -1);
  }

  int64_t num_right() const { return num_right_; }  // guesses

  void Run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFailure(); ++i) {
      const uint32_t dice = random_() % 10;
      if (dice < 3 && live_.size() < 20) Add();
      else if (dice == 3 && !live_.empty()) Finish(live_[random_() % live_.size()]);
      else Step();
    }
    // Everything ends, in bounded time: no starvation, no deadlock.
    int64_t steps = 0;
    while (!live_.empty() && !testing::Test::HasFailure()) {
      Step();
      ASSERT_LT(++steps, 50000);
    }
    while (!in_flight_.empty()) Deliver();
    EXPECT_EQ(scheduler_->num_running(), 0);
    EXPECT_EQ(scheduler_->num_waiting(), 0);
    EXPECT_EQ(scheduler_->pool().num_free(), scheduler_->pool().num_usable());  // no leak
    EXPECT_TRUE(scheduler_->ResetPrefixCache());
  }

 private:
  const SchedulerOptions& options() const { return scheduler_->options(); }

  void Add() {
    auto request = std::make_unique<RequestState>();
    const int64_t length = 1 + static_cast<int64_t>(random_()) % (options().max_length - 1);
    const int32_t family = static_cast<int32_t>(random_() % 3);
    for (int64_t i = 0; i < length; ++i) {
      request->prompt.push_back(static_cast<int32_t>(i * 3 + family));
    }
    auto params = std::make_shared<sampling::SamplingParams>();
    params->max_tokens = 1 + static_cast<int64_t>(random_() % 30);
    params->n = random_() % 4 == 0 ? 4 : 1;
    if (random_() % 6 == 0) params->prompt_logprobs = 1;
    request->params = params;
    request->priority = static_cast<int>(random_() % 3);
    request->cache_salt = random_() % 4 == 0 ? "salt" : "";
    request->arrival = next_arrival_++;
    for (int i = 0; i < params->n; ++i) {
      request->sequences.push_back(std::make_unique<Sequence>());
      Sequence* const s = request->sequences.back().get();
      s->request = request.get();
      s->index = i;
      live_.push_back(s);
    }
    scheduler_->Add(request.get());
    requests_.push_back(std::move(request));
  }

  void Finish(Sequence* s) {
    scheduler_->Finish(s);
    std::erase(live_, s);
  }

  // What a cell must hold: a value that depends on all tokens before it and on the salt.
  int64_t ContentAt(const PlanEntry& entry, int64_t position) const {
    const Sequence& s = *entry.sequence;
    uint64_t h = s.request->cache_salt.empty() ? 7 : 11;
    for (int64_t p = 0; p <= position; ++p) {
      const int32_t token = p < s.num_known()       ? s.token(p)
                            : entry.num_drafts > 0 ? s.drafts[static_cast<size_t>(p - s.num_known())]
                                                   : NextToken(s, p);
      h = h * 1000003 + static_cast<uint64_t>(token) + 1;
    }
    return static_cast<int64_t>(h >> 1);
  }

  int64_t& Cell(const Sequence& s, int64_t position) {
    const int32_t block = s.blocks[static_cast<size_t>(position / options().block_size)];
    return cache_[static_cast<size_t>(block * options().block_size +
                                      position % options().block_size)];
  }

  // The token that follows: what the sampler of a step will give, known to the test beforehand.
  // With guesses most of them are those that stood there before.
  int32_t NextToken(const Sequence& s, int64_t position) const {
    if (options().drafts && (position + s.index) % 7 != 0) return static_cast<int32_t>(position % 3);
    return static_cast<int32_t>(100000 + s.request->arrival * 1000 + s.index * 100 + position);
  }

  void Step() {
    StepPlan plan;
    scheduler_->Schedule(&plan);
    CheckPlan(plan);
    if (plan.entries.empty()) {  // there is no such step
      if (!in_flight_.empty()) Deliver();
      return;
    }
    in_flight_.push_back(std::move(plan));
    while (in_flight_.size() > most_in_flight_) Deliver();
  }

  // When a step starts, all but the last steps_under_way - 1 before it have been finished.
  void CheckTokenIsThere(const PlanEntry& entry) {
    if (entry.start + entry.num_tokens <= entry.sequence->num_known()) return;
    const auto under_way = std::min(in_flight_.size(), static_cast<size_t>(options().steps_under_way) - 1);
    for (size_t i = in_flight_.size() - under_way; i < in_flight_.size(); ++i) {
      for (const PlanEntry& earlier : in_flight_[i].entries) {
        EXPECT_FALSE(earlier.samples && earlier.sequence == entry.sequence) << "its token is on the way";
      }
    }
  }

  void CheckPlan(const StepPlan& plan) {
    int64_t tokens = 0;
    std::map<const Sequence*, int> seen;
    for (const PlanEntry& e : plan.entries) {
      const Sequence& s = *e.sequence;
      EXPECT_EQ(++seen[&s], 1);
      EXPECT_EQ(s.status, SequenceStatus::kRunning);
      ASSERT_GT(e.num_tokens, 0);
      CheckTokenIsThere(e);
      tokens += e.num_tokens;
      CheckPromptRows(e);
      const int64_t end = e.start + e.num_tokens;
      ASSERT_LE(end, static_cast<int64_t>(s.blocks.size()) * options().block_size);
      ASSERT_LE(end, options().max_length);
      for (int64_t p = e.start; p < end; ++p) {
        Cell(s, p) = ContentAt(e, p);
      }
    }
    // After all writes of the step: everything before a sequence's rows is still what it was.
    for (const PlanEntry& e : plan.entries) {
      for (int64_t p = 0; p < e.start + e.num_tokens; ++p) {
        ASSERT_EQ(Cell(*e.sequence, p), ContentAt(e, p)) << "position " << p << " of " << e.sequence->num_tokens();
      }
    }
    EXPECT_EQ(tokens, plan.work.rows);
    EXPECT_LE(tokens, options().max_num_batched_tokens);
    EXPECT_LE(scheduler_->num_running(), options().max_num_seqs);
    if (plan.entries.empty() && in_flight_.empty()) {
      EXPECT_TRUE(live_.empty()) << "nothing planned though sequences wait";
    }
  }

  // Every prompt token's log-probabilities come once, in order, and all of them before, or in the plan
  // of, the request's first sampled token.
  void CheckPromptRows(const PlanEntry& e) {
    const RequestState& request = *e.sequence->request;
    if (!request.params->prompt_logprobs) {
      EXPECT_EQ(e.first_prompt_row, e.end_prompt_row);
      return;
    }
    int64_t& planned = prompt_rows_[&request];
    if (e.first_prompt_row < e.end_prompt_row) {
      EXPECT_EQ(e.first_prompt_row, planned);
      EXPECT_GE(e.first_prompt_row, e.start);
      EXPECT_LE(e.end_prompt_row, e.start + e.num_tokens);
      planned = e.end_prompt_row;
    }
    if (e.samples) {
      EXPECT_EQ(planned, static_cast<int64_t>(request.prompt.size()) - 1);
    }
  }

  void Deliver() {
    const StepPlan plan = std::move(in_flight_.front());
    in_flight_.pop_front();
    for (const PlanEntry& e : plan.entries) {
      Sequence* const s = e.sequence;
      if (!e.samples || s->status == SequenceStatus::kFinished) continue;
      int64_t right = 0;
      while (right < e.num_drafts &&
             s->drafts[static_cast<size_t>(right)] == NextToken(*s, s->num_known() + right)) {
        ++right;
      }
      if (e.num_drafts > 0) scheduler_->Verified(s, right, e.num_drafts - right);
      num_right_ += right;
      for (int64_t i = 0; i <= right && s->status != SequenceStatus::kFinished; ++i) {
        // Now and then a sequence ends by a stop token, which nobody foresees.
        scheduler_->AppendToken(s, NextToken(*s, s->num_known()));
        const int64_t length = std::ssize(s->output);
        ASSERT_LE(length, s->request->params->max_tokens);
        const bool ended = length == s->request->params->max_tokens || s->num_known() >= options().max_length ||
                           random_() % 40 == 0;
        if (ended) Finish(s);
      }
    }
  }

  std::mt19937 random_;
  size_t most_in_flight_ = 0;
  StepCost cost_;  // of one in two walks nothing is known, and nothing is cut
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<std::unique_ptr<RequestState>> requests_;
  std::vector<Sequence*> live_;
  std::deque<StepPlan> in_flight_;
  std::map<const RequestState*, int64_t> prompt_rows_;
  std::vector<int64_t> cache_;
  int64_t next_arrival_ = 0;
  int64_t num_right_ = 0;
};

TEST(SchedulerRandomTest, InvariantsHoldOnRandomWalks) {
  int64_t right = 0;
  for (uint32_t seed = 0; seed < 150 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomWalk walk(seed);
    walk.Run(300);
    right += walk.num_right();
  }
  EXPECT_GT(right, 1000);
}

}  // namespace
}  // namespace tiercel::engine
