// Turns: in which order work of known cost is done. Pure logic, no threads and no clock.
//
// What would be finished first, had it begun when it came, goes first. So short work overtakes long
// work that waits, but each only for as long as it would take itself: nothing waits for ever.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <utility>

namespace tiercel::server {

// Bytes of a request's body; a byte is tokenized or rendered in about a microsecond.
using WorkCost = int64_t;

// Work that a thread kept for short work may do: it holds the next one up by some 30 ms at most.
inline constexpr WorkCost kMaxShortCost = 32 << 10;

template <typename Task>
class Turns {
 public:
  // `now` in microseconds; never falls.
  void Add(int64_t now, WorkCost cost, Task task) {
    auto& lane = cost <= kMaxShortCost ? short_ : long_;
    lane.insert({now + cost, number_++, std::move(task)});
  }

  bool empty(bool only_short) const { return short_.empty() && (only_short || long_.empty()); }

  // Takes the next task out; nullopt if there is none of the kind.
  std::optional<Task> Next(bool only_short) {
    if (empty(only_short)) return std::nullopt;
    const bool take_long =
        !only_short && !long_.empty() && (short_.empty() || *long_.begin() < *short_.begin());
    auto& lane = take_long ? long_ : short_;
    auto node = lane.extract(lane.begin());
    return std::move(node.value().task);
  }

 private:
  struct Entry {
    int64_t end;      // microseconds: when it would be finished, alone
    uint64_t number;  // of what ends alike, the earlier one goes first
    Task task;
    bool operator<(const Entry& other) const {
      return std::pair(end, number) < std::pair(other.end, other.number);
    }
  };
  std::set<Entry> short_, long_;
  uint64_t number_ = 0;
};

}  // namespace tiercel::server
