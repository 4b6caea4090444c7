#include "engine/step_timer.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace tiercel::engine {
namespace {

// How long before the end: for planning (a fraction of a millisecond), for a wake-up on a busy
// machine, and because steps differ.
constexpr double kLeadSeconds = 0.001;
constexpr double kLeadFraction = 0.15;

size_t IndexOf(int64_t num_tokens) {
  return std::min<size_t>(31, static_cast<size_t>(std::bit_width(static_cast<uint64_t>(num_tokens))));
}

}  // namespace

void StepTimer::Started(int64_t num_tokens, double now) {
  num_tokens_ = num_tokens;
  start_ = now;
  plan_time_ = now;
  double expected = std::numeric_limits<double>::infinity();
  for (const Past& past : past_[IndexOf(num_tokens)]) {
    if (past.num_tokens == 0) return;
    // Fewer tokens may take less time, more need not take more.
    const double share = static_cast<double>(num_tokens) / static_cast<double>(past.num_tokens);
    expected = std::min(expected, past.seconds * std::min(1.0, share));
  }
  plan_time_ += std::max(0.0, expected - std::max(kLeadSeconds, kLeadFraction * expected));
}

void StepTimer::Ended(double now) {
  if (num_tokens_ == 0) return;
  std::array<Past, 2>& past = past_[IndexOf(num_tokens_)];
  const Past ended{num_tokens_, now - start_};
  past = {ended, past[0].num_tokens == 0 ? ended : past[0]};
  num_tokens_ = 0;
}

}  // namespace tiercel::engine
