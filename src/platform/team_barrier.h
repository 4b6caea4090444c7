// TeamBarrier: where members of a team meet, as a tree of two levels.
//
// The members of one group (workers that share a cache) count their arrivals on a line of their own, and
// the last of each group counts at the top; so a line goes to and fro within a cache, and between caches once
// for each of them. All wait for one event, which is written once a round.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "platform/event.h"

namespace tiercel::platform {

class TeamBarrier {
 public:
  // `groups[i]` is member i's: members of equal numbers are one group.
  explicit TeamBarrier(const std::vector<int>& groups) : group_of_(groups.size()) {
    std::vector<int> names;
    for (size_t i = 0; i < groups.size(); ++i) {
      auto at = std::find(names.begin(), names.end(), groups[i]);
      group_of_[i] = static_cast<int>(at - names.begin());
      if (at == names.end()) names.push_back(groups[i]);
    }
    groups_ = std::vector<Group>(names.size());
    for (const int group : group_of_) ++groups_[static_cast<size_t>(group)].size;
  }

  int size() const { return static_cast<int>(group_of_.size()); }
  Event& phase() { return phase_; }

  // Returns the phase to wait for the end of: it cannot end before every member has arrived, so one
  // counter serves every round.
  uint32_t Arrive(int member) {
    const uint32_t current = phase_.count();
    Group& group = groups_[static_cast<size_t>(group_of_[static_cast<size_t>(member)])];
    if (!IsLast(&group.arrived, group.size)) return current;
    if (groups_.size() == 1 || IsLast(&top_, static_cast<int>(groups_.size()))) phase_.Advance();
    return current;
  }

 private:
  struct alignas(kCacheLine) Group {
    std::atomic<int> arrived{0};
    int size = 0;
  };

  // Counts an arrival; the last one of `size` makes the counter ready for the next round, which the phase
  // publishes.
  static bool IsLast(std::atomic<int>* arrived, int size) {
    if (arrived->fetch_add(1, std::memory_order_acq_rel) != size - 1) return false;
    arrived->store(0, std::memory_order_relaxed);
    return true;
  }

  Event phase_;
  alignas(kCacheLine) std::atomic<int> top_{0};
  std::vector<int> group_of_;
  std::vector<Group> groups_;
};

}  // namespace tiercel::platform
