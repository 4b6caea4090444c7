// Planning a decode step, writing it out and taking its tokens back allocates nothing once warm.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/batch_plan.h"
#include "engine/scheduler.h"

namespace {
std::atomic<int64_t> num_allocations{0};
}  // namespace

void* operator new(size_t size) {
  ++num_allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace tiercel::engine {
namespace {

class PlanningAllocationTest : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Drafts, PlanningAllocationTest, testing::Bool());

TEST_P(PlanningAllocationTest, DecodeStepsAllocateNothing) {
  SchedulerOptions options;
  if (GetParam()) options.drafts = {.num_tokens = 5, .lookup_min = 1, .lookup_max = 4};
  options.block_size = 128;
  options.num_blocks = 1000;
  options.max_length = 4096;
  options.max_num_batched_tokens = 2048;
  options.max_num_seqs = 32;
  Scheduler scheduler(options, PrefixHasher(1, 2));
  model::RunLimits limits;
  limits.max_rows = 2048;
  limits.max_seqs = 32;
  limits.logit_group_rows = 96;
  BatchPlan batch(limits, options.max_length, options.block_size);
  StepPlan plan;
  std::vector<std::unique_ptr<RequestState>> requests;
  auto params = std::make_shared<sampling::SamplingParams>();
  params->max_tokens = 1000;
  for (int i = 0; i < 32; ++i) {
    requests.push_back(std::make_unique<RequestState>());
    RequestState& request = *requests.back();
    request.prompt = {i, 1, 2};
    request.params = params;
    request.arrival = i;
    request.sequences.push_back(std::make_unique<Sequence>());
    request.sequences[0]->request = &request;
    scheduler.Add(&request);
  }
  const auto step = [&] {
    scheduler.Schedule(&plan);
    batch.Build(plan);
    for (const PlanEntry& entry : plan.entries) {
      if (entry.num_drafts > 0) scheduler.Verified(entry.sequence, 0, entry.num_drafts);
      scheduler.AppendToken(entry.sequence, 7);
    }
  };
  // 70 tokens: the output vectors have just grown to 128, and no block ends before 125.
  for (int i = 0; i < 70; ++i) step();
  ASSERT_EQ(plan.entries.size(), 32u);
  const int64_t before = num_allocations;
  for (int i = 0; i < 50; ++i) step();
  EXPECT_EQ(num_allocations - before, 0);
}

}  // namespace
}  // namespace tiercel::engine
