// Asks for the lines of a linear stream ahead of its reading, so that two pages are always on their way.
//
// The second-level prefetcher works within a page of 4 KiB and runs ahead of the lines asked for only
// after the first few of a page; asked for one after the other, the lines at each page's beginning
// come one by one. So the second half of a page and the first half of the next are asked for in turn
// (measured: 0.86 of what memory gives become 0.97).
#pragma once

#include <cstdint>

namespace tiercel::kernels::simd {

// Into which cache: __builtin_prefetch's locality.
inline constexpr int kToL1 = 3, kToL2 = 2;

inline constexpr int64_t kLine = 64;
inline constexpr int64_t kHalfPage = 2048;

// So many pairs of lines at a time: Ask's unit.
inline constexpr int64_t kPace = 1 << 16;

// Lines are asked for that lie behind the stream's end: harmless. All of it is inlined, so every ISA has its
// own copy.
template <int kCache>
class StreamAhead {
 public:
  // Begins at the page of `from`, of which the first half is taken to be on its way.
  [[gnu::always_inline]] explicit StreamAhead(const void* from)
      : at_(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(from) & ~uintptr_t{4095}) +
            2 * kHalfPage) {}

  // Asks for the next two lines: one of each half.
  [[gnu::always_inline]] void AskPair() {
    __builtin_prefetch(at_ - kHalfPage, 0, kCache);
    __builtin_prefetch(at_, 0, kCache);
    at_ += kLine;
    if (reinterpret_cast<uintptr_t>(at_) % kHalfPage == 0) at_ += kHalfPage;
  }

  // The same at a pace: pairs × kPace.
  [[gnu::always_inline]] void Ask(int64_t pace) {
    for (due_ += pace; due_ >= kPace; due_ -= kPace) AskPair();
  }

 private:
  const char* at_;  // in the first half of a page; the partner is in the second half of the page before
  int64_t due_ = 0;
};

}  // namespace tiercel::kernels::simd
