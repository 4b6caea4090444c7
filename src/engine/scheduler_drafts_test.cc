// How many guesses the scheduler plans, and what it takes back.
#include <gtest/gtest.h>

#include "engine/made_up_machine.h"
#include "engine/scheduler.h"

namespace tiercel::engine {
namespace {

class DraftRun {
 public:
  // Prompts of 1 2 3 1 2 3 …: what follows is always guessed.
  DraftRun(SchedulerOptions options, const StepCost* cost, int streams = 1, int64_t max_tokens = 1000)
      : scheduler_(options, PrefixHasher(1, 2), cost) {
    params_->max_tokens = max_tokens;
    for (int i = 0; i < streams; ++i) AddStream();
    Step(0);
  }

  void AddStream() {
    RequestState& request = *requests_.emplace_back(std::make_unique<RequestState>());
    for (int t = 0; t < 6; ++t) request.prompt.push_back(t % 3 + 1);
    request.params = params_;
    request.arrival = std::ssize(requests_);
    request.sequences.push_back(std::make_unique<Sequence>());
    request.sequences[0]->request = &request;
    scheduler_.Add(&request);
  }

  static SchedulerOptions Options() {
    SchedulerOptions o;
    o.block_size = 16;
    o.num_blocks = 1000;
    o.max_length = 2000;
    o.max_num_batched_tokens = 64;
    o.max_num_seqs = 8;
    o.drafts = {.num_tokens = 8, .lookup_min = 1, .lookup_max = 3};
    return o;
  }

  // Plans a step, of whose guesses the first `right` ones are right, and returns how many there were of each stream.
  std::vector<int64_t> Step(int64_t right) {
    StepPlan plan;
    scheduler_.Schedule(&plan);
    std::vector<int64_t> guessed;
    for (const PlanEntry& entry : plan.entries) {
      Sequence* const sequence = entry.sequence;
      guessed.push_back(entry.num_drafts);
      EXPECT_EQ(entry.num_drafts, std::ssize(sequence->drafts));
      const std::vector<int32_t> drafts = sequence->drafts;
      const int64_t good = std::min(right, entry.num_drafts);
      if (entry.num_drafts > 0) scheduler_.Verified(sequence, good, entry.num_drafts - good);
      for (int64_t i = 0; i < good; ++i) scheduler_.AppendToken(sequence, drafts[static_cast<size_t>(i)]);
      scheduler_.AppendToken(sequence, 3);  // seldom the one that would follow, but often seen
      EXPECT_EQ(sequence->num_pending, 0);
      EXPECT_EQ(sequence->num_computed, sequence->num_known() - 1);
      if (scheduler_.AtLimit(*sequence)) scheduler_.Finish(sequence);
    }
    rows_ = plan.work.rows;
    return guessed;
  }
  int64_t rows() const { return rows_; }  // of the last step
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  Scheduler scheduler_;
  std::shared_ptr<sampling::SamplingParams> params_ = std::make_shared<sampling::SamplingParams>();
  std::vector<std::unique_ptr<RequestState>> requests_;
  int64_t rows_ = 0;
};

using Counts = std::vector<int64_t>;

TEST(SchedulerDraftsTest, AsManyAsAskedForWhereNothingIsKnownOfTheCost) {
  DraftRun run(DraftRun::Options(), nullptr);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(run.Step(i % 3), Counts{8});
}

TEST(SchedulerDraftsTest, NoMoreThanTheLengthAllows) {
  DraftRun run(DraftRun::Options(), nullptr, 1, 12);
  EXPECT_EQ(run.Step(8), Counts{8});  // tokens 2 to 10
  EXPECT_EQ(run.Step(0), Counts{1});  // the 11th, and at most the 12th
  EXPECT_EQ(run.Step(0), Counts{0});  // the 12th
  EXPECT_EQ(run.scheduler().num_running(), 0);

  SchedulerOptions options = DraftRun::Options();
  options.max_length = 10;
  DraftRun shorter(options, nullptr);
  EXPECT_EQ(shorter.Step(0), Counts{2});  // of 7 known tokens; the 8th is sure
}

TEST(SchedulerDraftsTest, NoMoreThanTheStepHolds) {
  SchedulerOptions options = DraftRun::Options();
  options.max_num_batched_tokens = 24;
  DraftRun run(options, nullptr, 4);  // 6 tokens of each prompt
  EXPECT_EQ(run.Step(0), (Counts{8, 8, 4, 0}));
  EXPECT_EQ(run.rows(), 24);
}

// Guesses take no block from anyone: only what is free, or what their sequence has.
TEST(SchedulerDraftsTest, NobodyIsPreemptedForAGuess) {
  SchedulerOptions options = DraftRun::Options();
  options.num_blocks = 3;
  options.max_length = 32;
  DraftRun run(options, nullptr, 2);  // a block for each
  EXPECT_EQ(run.Step(0), (Counts{8, 8}));
  EXPECT_EQ(run.Step(0), (Counts{8, 8}));  // up to the 16th
  EXPECT_EQ(run.Step(0), (Counts{7, 7}));
  EXPECT_EQ(run.Step(0), (Counts{6, 6}));
  EXPECT_EQ(run.scheduler().num_preempted(), 0u);
}

TEST(SchedulerDraftsTest, WhereRowsAreDearOnlyRightGuessesPay) {
  StepCost cost;
  Train(LinearMachine(3, 1000), &cost);  // three milliseconds, and one for each row
  DraftRun run(DraftRun::Options(), &cost);
  Counts guessed;
  for (int i = 0; i < 30; ++i) guessed.push_back(run.Step(0)[0]);
  EXPECT_GT(guessed.front(), 0);
  EXPECT_EQ(guessed.back(), 0);
  // Time heals: they are tried again.
  int64_t later = 0;
  for (int i = 0; i < 200; ++i) later += run.Step(0)[0];
  EXPECT_GT(later, 0);
  EXPECT_LT(later, 100);
}

TEST(SchedulerDraftsTest, WhereRowsAreCheapWrongGuessesAreMadeForLong) {
  StepCost cost;
  Train(LinearMachine(20, 10), &cost);
  DraftRun run(DraftRun::Options(), &cost);
  for (int i = 0; i < 10; ++i) EXPECT_GT(run.Step(0)[0], 0);
}

TEST(SchedulerDraftsTest, RightGuessesStayWhereTheyPay) {
  StepCost cost;
  Train(LinearMachine(5, 1000), &cost);
  DraftRun run(DraftRun::Options(), &cost);
  for (int i = 0; i < 20; ++i) EXPECT_GT(run.Step(8)[0], 0);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(run.Step(8), Counts{8});
}

// What one stream's guesses were worth is what those of the next one are taken to be worth.
TEST(SchedulerDraftsTest, StreamsLearnFromEachOther) {
  StepCost cost;
  Train(LinearMachine(3, 1000), &cost);
  const auto guesses_after = [&](int64_t right) {
    DraftRun run(DraftRun::Options(), &cost);
    for (int i = 0; i < 60; ++i) run.Step(right);
    run.AddStream();
    run.Step(0);
    return run.Step(0)[1];
  };
  EXPECT_LE(guesses_after(0), 1);
  EXPECT_GT(guesses_after(8), 2);
}

}  // namespace
}  // namespace tiercel::engine
