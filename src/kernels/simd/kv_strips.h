// Strips of a head's keys and values, two vectors wide, in which the many rows of an attention tile read them: as FP32 numbers or,
// where S multiplies BF16 pairs (kPairDot), as those. S is an ISA's Simd.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/bf16.h"
#include "kernels/simd/kv_head.h"
#include "kernels/simd/unpack_impl.h"

namespace tiercel::kernels::simd {

// Two vectors of columns, `vectors` floats apart: a number of FP32 or a BF16 pair of each. The next ones are `next`
// floats further on.
struct KvStrip {
  const float* at;
  int64_t vectors, next;
};

template <typename S, typename Element>
class KvStrips {
 public:
  static constexpr int64_t kColumns = 2 * S::kLanes;
  // Pairs of keys are read where they are in the cache.
  static constexpr bool kInPlace = S::kPairDot && sizeof(Element) == sizeof(BF16);

  // scratch: [max(head_dim, count)][kColumns], what all strips but those in place are unpacked to, one after the other.
  KvStrips(const KvHead<S, Element>& kv, float* scratch) : kv_(kv), scratch_(scratch) {}

  // [head_dim][kColumns] of the keys from `key` on, which lie sixteen by sixteen.
  KvStrip Keys(int64_t key) const {
    const Element* const keys = kv_.BlockOf(key) + kv_.layout.KeyOffset(kv_.Slot(key), 0);
    const int64_t d = kv_.layout.head_dim;
    const auto place = [&](int64_t k) { return k / 16 * (16 * d) + k % 16 * kTogether<Element>; };
    if constexpr (kInPlace) {
      return {reinterpret_cast<const float*>(keys), place(S::kLanes) / kTogether<Element>, 16};
    } else {
      for (int64_t k = 0; k < kColumns; k += S::kLanes) {
        Unpack<1>(keys + place(k), 16 * kTogether<Element>, d, scratch_ + k);
      }
      return Unpacked();
    }
  }

  // [count][kColumns] of the values' columns from `column` on. Pairs are copied, too: those of a column lie so far apart
  // that they share few sets of L1.
  KvStrip Values(int64_t first, int64_t count, int column) const {
    for (int64_t k = 0; k < count;) {
      const int slot = kv_.Slot(first + k);
      const int64_t together = std::min<int64_t>(count - k, kv_.layout.block_size - slot);
      Unpack<2>(kv_.BlockOf(first + k) + kv_.layout.ValueOffset(slot, column), int64_t{kTogether<Element>} * kv_.layout.head_dim,
                together, scratch_ + (S::kPairDot ? k / 2 : k) * kColumns);
      k += together;
    }
    return Unpacked();
  }

 private:
  KvStrip Unpacked() const { return {scratch_, S::kLanes, kColumns}; }

  // strip[0 … count)[kVectors · S::kLanes] = what lies at `from`; the next kTogether are `next` elements further on.
  template <int kVectors>
  static void Unpack(const Element* from, int64_t next, int64_t count, float* strip) {
    for (int64_t k = 0; k < count; k += kTogether<Element>, from += next) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const Element* const at = from + v * S::kLanes * kTogether<Element>;
        float* const to = strip + v * S::kLanes;
        if constexpr (!S::kPairDot) {
          UnpackParts<S, Element>(at, to, kColumns);
        } else if constexpr (kInPlace) {
          S::StoreRaw(to, S::LoadRaw(at));
        } else {
          typename S::Raw first, second;
          S::WidenPairs(S::LoadRaw(at), &first, &second);
          S::StoreRaw(to, first);
          S::StoreRaw(to + kColumns, second);
        }
      }
      strip += (S::kPairDot ? kTogether<Element> / 2 : kTogether<Element>) * kColumns;
    }
  }

  const KvHead<S, Element>& kv_;
  float* const scratch_;
};

}  // namespace tiercel::kernels::simd
