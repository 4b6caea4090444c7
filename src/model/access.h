// Accesses: which memory an operator reads or writes, and which worker, or which rank, touches which part of
// it. The Program derives its barriers from them, by one rule for either: Conflict.
//
// What no operator writes (weights, a step's inputs) need not be declared.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tiercel::model {

// Rows of `width` bytes, `stride` bytes apart (at least `width`). No rows: nothing.
struct Region {
  const std::byte* base = nullptr;
  int64_t rows = 0;
  int64_t stride = 0;
  int64_t width = 0;

  bool empty() const { return rows <= 0 || width <= 0; }
  friend bool operator==(const Region&, const Region&) = default;
  uintptr_t begin() const { return reinterpret_cast<uintptr_t>(base); }
  uintptr_t end() const { return begin() + static_cast<uintptr_t>((rows - 1) * stride + width); }
};

// The same from pointers to elements, with stride and width in elements. A null pointer: nothing.
template <typename T>
Region RegionOf(const T* data, int64_t rows, int64_t stride, int64_t width) {
  constexpr auto kSize = static_cast<int64_t>(sizeof(T));
  return {reinterpret_cast<const std::byte*>(data), data == nullptr ? 0 : rows, stride * kSize,
          width * kSize};
}

// Of two regions of one stride: whether a row of one, as far as it is wide, meets rows of the other if
// both go on for ever.
bool ShareColumns(const Region& a, const Region& b);

// False only if the two have no byte in common. Regions of one stride are told apart by rows and by
// columns, others by their first and last bytes.
inline bool MayOverlap(const Region& a, const Region& b) {
  if (a.empty() || b.empty() || a.end() <= b.begin() || b.end() <= a.begin()) return false;
  return a.stride != b.stride || a.base == b.base || ShareColumns(a, b);
}

// How the team's workers share a region out, each by the Share that it has in all of a Program. Worker i touches
// - kAll: any part of it;
// - kOwn: of a region with one row for each worker row i;
// - kRows: the rows SplitRange(rows, 1, share);
// - kColumns: of `parts` parts of equal width side by side those of SplitRange(parts, 1, share).
struct Division {
  enum class Kind : uint8_t { kAll, kOwn, kRows, kColumns };
  Kind kind = Kind::kAll;
  int64_t parts = 0;  // of kColumns

  static constexpr Division All() { return {}; }
  static constexpr Division Own() { return {Kind::kOwn}; }
  static constexpr Division Rows() { return {Kind::kRows}; }
  static constexpr Division Columns(int64_t parts) { return {Kind::kColumns, parts}; }
  friend bool operator==(const Division&, const Division&) = default;
};

struct Access {
  Region region;
  Division division;
  bool writes = false;
};

inline Access Reads(const Region& region, Division division) { return {region, division, false}; }
inline Access Writes(const Region& region, Division division) { return {region, division, true}; }

// Both divide the same memory in the same way: worker i meets what worker i has touched.
bool DividedAlike(const Access& a, const Access& b);

// Whether a worker may meet, in the one access, what another worker touches in the other, and one of
// the two writes it: then a barrier must lie between them, whichever comes first.
inline bool Conflict(const Access& a, const Access& b) {
  return (a.writes || b.writes) && MayOverlap(a.region, b.region) && !DividedAlike(a, b);
}

// What the ranks of a team touch in one operator, of memory that they share or read of each other: all of
// them together `region`; apart if each touches a part of its own, which the region alone determines (its rows
// by their owners, or the rank's copy of it). Every rank declares the same ones.
struct RankAccess {
  Region region;
  bool apart = false;
  bool writes = false;
  bool copies = false;    // each rank has a copy of the region, and the first one's stands for all
  bool own_rows = false;  // of the copies each rank reads the rows that it owns alone
};

// Whether one rank may meet, in the one access, what another touches in the other, and one of them writes.
inline bool Conflict(const RankAccess& a, const RankAccess& b) {
  return (a.writes || b.writes) && MayOverlap(a.region, b.region) &&
         !(a.apart && b.apart && a.region == b.region);
}

}  // namespace tiercel::model
