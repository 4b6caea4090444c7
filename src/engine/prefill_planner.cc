#include "engine/prefill_planner.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/round_up.h"

namespace tiercel::engine {
namespace {

constexpr double kGoodRate = 0.97;  // of the best rate: what is efficient
// A part of a long prompt has at least so many times what is efficient: nobody is there to gain from less.
constexpr int64_t kEfficientParts = 2;
constexpr double kPoorRate = 0.90;  // below: prompts share a step
// A step with prompts may take so many times what its streams alone would take.
constexpr double kStretch = 4;
constexpr int64_t kMixedInARow = 16;
constexpr double kUnseenSeconds = 0.02;
// What the target leaves for a step, the rest is for the way to the client.
constexpr double kTargetShare = 0.99;
// Of the steps with prompts beside streams so many take no longer than `overrun_` times what was expected: one that does raises it by
// kRise, any other lowers it by as much as keeps it where it is if so many do.
constexpr double kWithin = 0.99;
constexpr double kRise = 0.03;
constexpr double kLeastOverrun = 1.02, kMostOverrun = 2;
// Cuts fall on multiples of this: kernels compute 4 to 16 rows at a time.
constexpr int64_t kGrain = 8;

// `left` in so many parts of the same size.
int64_t EvenPart(int64_t left, int64_t parts) {
  return std::min(left, RoundUp(CeilDiv(left, parts), kGrain));
}

}  // namespace

void PrefillPlanner::Begin(const StepWork& decodes, int64_t streams, int64_t prompts) {
  prompts_ = prompts;
  first_ = true;
  shared_ = false;
  limit_ = std::numeric_limits<double>::infinity();
  alone_ = false;
  if (cost_ == nullptr || !cost_->known() || streams == 0 || prompts == 0) {
    num_mixed_ = 0;
    return;
  }
  if (target_itl_ > 0) {
    limit_ = kTargetShare * target_itl_ / overrun_;
    return;
  }
  alone_ = num_mixed_ == kMixedInARow;
  num_mixed_ = alone_ ? 0 : num_mixed_ + 1;
  const double fair = 1 + static_cast<double>(prompts) / static_cast<double>(streams);
  limit_ = std::max(kUnseenSeconds, cost_->Seconds(decodes) * std::max(kStretch, fair));
}

void PrefillPlanner::Took(const StepWork& work, double seconds) {
  if (cost_ == nullptr || !cost_->known()) return;
  const bool late = seconds > overrun_ * cost_->Seconds(work);
  overrun_ *= 1 + (late ? kRise : -kRise * (1 - kWithin) / kWithin);
  overrun_ = std::clamp(overrun_, kLeastOverrun, kMostOverrun);
}

int64_t PrefillPlanner::Part(const StepWork& work, const Prompt& prompt, int64_t most) {
  most = std::min(prompt.left, most);
  if (cost_ == nullptr || !cost_->known() || most <= 0) return most;
  if (alone_ && prompt.streams > 0) return 0;
  const bool first = std::exchange(first_, false);
  if (first) FindEfficientPart(prompt.start);
  const int64_t parts = prompt.left / (kEfficientParts * efficient_part_);
  const int64_t even = EvenPart(prompt.left, std::max<int64_t>(1, parts));
  if (first) room_ = std::max(even, efficient_part_);
  most = std::min({most, even, room_});
  const int64_t count = prompt.streams > 0 ? BesideStreams(work, prompt, most, first)
                                           : Alone(work, prompt, most, first);
  room_ -= count;
  return count;
}

int64_t PrefillPlanner::Alone(const StepWork& work, const Prompt& prompt, int64_t most,
                              bool first) {
  if (!first && (most < std::min(kGrain, prompt.left) || (!shared_ && KeepsRate(work)))) return 0;
  if (!prompt.shares || most == prompt.left) return most;
  shared_ = true;
  return std::min(most, EvenPart(room_, 2));
}

int64_t PrefillPlanner::BesideStreams(const StepWork& work, const Prompt& prompt, int64_t most,
                                      bool first) const {
  int64_t count = LargestWithin(limit_, work, prompt.start, most);
  if (prompt.shares && count < prompt.left) {
    count = LargestWithin((cost_->Seconds(work) + limit_) / 2, work, prompt.start, count);
  }
  if (count < most) count -= (work.rows + count) % kGrain;
  if (count < std::min(kGrain, most)) return first ? std::min(kGrain, most) : 0;
  if (prompts_ > 1) return count;
  // With nobody behind it a prompt's last part may as well be as long as the others.
  return std::min(count, EvenPart(prompt.left, CeilDiv(prompt.left, count)));
}

int64_t PrefillPlanner::LargestWithin(double seconds, const StepWork& work, int64_t start,
                                      int64_t most) const {
  int64_t fits = 0, too_many = most + 1;
  while (fits + 1 < too_many) {
    const int64_t count = (fits + too_many) / 2;
    StepWork with = work;
    with.Add(start, count);
    (cost_->Seconds(with) <= seconds ? fits : too_many) = count;
  }
  return fits;
}

// The smallest part of a prompt, from `start` on, that keeps a good rate in a step of its own.
void PrefillPlanner::FindEfficientPart(int64_t start) {
  const auto seconds = [this, start](int64_t count) {
    StepWork work;
    work.Add(start, count);
    return cost_->Seconds(work);
  };
  // Four sizes an octave.
  const auto next = [this](int64_t count) {
    return std::min(max_tokens_, RoundUp(count * 19 / 16, kGrain));
  };
  best_rate_ = 0;
  for (int64_t count = std::min(kGrain, max_tokens_);; count = next(count)) {
    best_rate_ = std::max(best_rate_, static_cast<double>(count) / seconds(count));
    if (count == max_tokens_) break;
  }
  efficient_part_ = std::min(kGrain, max_tokens_);
  while (efficient_part_ < max_tokens_ &&
         (static_cast<double>(efficient_part_) < kGoodRate * best_rate_ * seconds(efficient_part_) ||
          seconds(efficient_part_) < kUnseenSeconds)) {
    efficient_part_ = next(efficient_part_);
  }
}

// Whether the step needs no further prompt to be worth its time.
bool PrefillPlanner::KeepsRate(const StepWork& work) const {
  const double seconds = cost_->Seconds(work);
  return seconds >= kUnseenSeconds &&
         static_cast<double>(work.rows) >= kPoorRate * best_rate_ * seconds;
}

}  // namespace tiercel::engine
