// StepTimer: when to plan the step after the running one. Planned as late as it can be without
// leaving the workers idle, a step takes in the requests that have come meanwhile; planned as early
// as it could be, it would make them wait for one step more. Pure logic.
#pragma once

#include <array>
#include <cstdint>

namespace tiercel::engine {

class StepTimer {
 public:
  // A step of so many tokens begins to run, or has ended; one at a time, `now` in seconds.
  void Started(int64_t num_tokens, double now);
  void Ended(double now);

  // The moment for the plan of the next step: some time before the running one should end, which
  // is guessed from the quicker of the last two similar ones; at once if there was none.
  double PlanTime() const { return plan_time_; }

 private:
  struct Past {
    int64_t num_tokens = 0;  // 0: no such step yet
    double seconds = 0;
  };

  std::array<std::array<Past, 2>, 32> past_;  // of the steps with 1, 2–3, 4–7 … tokens the last two
  int64_t num_tokens_ = 0;
  double start_ = 0;
  double plan_time_ = 0;
};

}  // namespace tiercel::engine
