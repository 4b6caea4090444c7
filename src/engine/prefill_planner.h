// PrefillPlanner: how much of the prompts goes into a step. Pure logic: measured costs in, tokens out.
//
// While nothing decodes, a step holds one whole prompt, or of a long one an even part, from twice the
// smallest one on that keeps 97 % of the rate at which prompts can be computed. Further prompts join only a step that
// would keep less than 90 %: two prompts in one step end when both are done, one after the other the
// first of them ends in half of that time.
//
// Beside streams a step may take so long that three quarters of the time are for prompts, or more where
// more than three of them wait for each stream: each request, waiting or running, then has the same share.
// With a target it may be expected to take so long that 99 of 100 such steps take no longer than that. The streams' rows pay for reading the weights, so that small
// parts beside them cost little.
//
// After 16 steps with prompts in a row the streams have one to themselves: what they take alone stays known
// while a long prompt is computed.
//
// Steps of less than 20 ms are not cut: nobody sees them. A step with a prompt computes at least 8
// tokens of it, whatever the target: prompts come to their end. Until steps have been measured nothing
// is cut.
//
// A long prompt leaves half of the part to those behind it while one of them has at most a quarter of its
// tokens to go: a short prompt need not wait for a long one, which still has at least half.
#pragma once

#include <cstdint>

#include "engine/step_cost.h"

namespace tiercel::engine {

class PrefillPlanner {
 public:
  // What a step's next prompt is like.
  struct Prompt {
    int64_t start = 0;    // tokens that are in the cache
    int64_t left = 0;     // tokens to compute
    int64_t streams = 0;  // that decode in this step and whose gaps matter to it
    bool shares = false;  // prompts behind it are much shorter
  };

  // `cost` null: nothing is ever cut. `target_itl`: seconds, 0: none.
  PrefillPlanner(const StepCost* cost, double target_itl, int64_t max_num_batched_tokens)
      : cost_(cost), target_itl_(target_itl), max_tokens_(max_num_batched_tokens) {}

  // A step begins with these rows of `streams` sequences that decode; `prompts` are to be computed.
  void Begin(const StepWork& decodes, int64_t streams, int64_t prompts);
  // How many of the prompt's tokens to add to the step's work so far, at most `most`; 0: no more
  // prompts in this step.
  int64_t Part(const StepWork& work, const Prompt& prompt, int64_t most);

  // A step of prompts beside streams has taken so long. To be called before the cost learns it.
  void Took(const StepWork& work, double seconds);

  // Seconds that the step may take beside streams; infinite without a limit.
  double limit() const { return limit_; }

 private:
  int64_t Alone(const StepWork& work, const Prompt& prompt, int64_t most, bool first);
  int64_t BesideStreams(const StepWork& work, const Prompt& prompt, int64_t most, bool first) const;
  int64_t LargestWithin(double seconds, const StepWork& work, int64_t start, int64_t most) const;
  void FindEfficientPart(int64_t start);
  bool KeepsRate(const StepWork& work) const;

  static constexpr double kFirstOverrun = 1.1;

  const StepCost* const cost_;
  const double target_itl_;
  const int64_t max_tokens_;
  double limit_ = 0;
  // So many times what was expected 99 of 100 steps of prompts beside streams take at most.
  double overrun_ = kFirstOverrun;
  int64_t prompts_ = 0;
  int64_t num_mixed_ = 0;  // steps of streams and prompts in a row
  bool alone_ = false;     // the streams have this step to themselves
  // From the step's first prompt on.
  bool first_ = true;
  int64_t efficient_part_ = 0;
  double best_rate_ = 0;  // tokens a second
  int64_t room_ = 0;      // tokens that the step may hold beside those it has
  bool shared_ = false;   // a prompt has left room for those behind it
};

}  // namespace tiercel::engine
