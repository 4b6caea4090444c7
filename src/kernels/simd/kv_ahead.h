// Asks for the cache lines of K and V that a share's tiles read, in the order of reading.
//
// Few rows use each key once: it must come at the memory's speed. So each product asks for as many
// lines as it reads, kAheadBytes further on: of this step's values, of the next step, or of the tiles
// that follow, however short they are. Tiles of more than max_rows rows, whose kernel does not ask, are passed over.
//
// As in StreamAhead two halves of pages are on their way at a time, if possible of different pages.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/attention_work.h"
#include "kernels/kv_layout.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::simd {

// As much as the keys or the values of a step of 256 keys at head_dim 128 in BF16: they come while
// the other half is multiplied. A small part of L2.
inline constexpr int64_t kAheadBytes = 64 << 10;

// Isa: any type of an ISA's own, so that the linker cannot mix up the instantiations.
template <typename Isa, typename Element>
class KvAhead {
 public:
  // max_rows: rows (tokens × query heads of a group) of the tiles that are asked for; step: keys
  // that a tile takes at a time.
  KvAhead(const AttentionArgs& args, Share share, int max_tokens, int64_t max_rows, int64_t step)
      : args_(args), layout_(args.layout), tiles_(args, share, max_tokens), max_rows_(max_rows),
        step_keys_(step) {
    Ask(kAheadBytes / kLine);
  }

  // Asks for the next `lines`, rounded up to an even number. Inlined because GCC takes a function that
  // only prefetches for one without effect.
  [[gnu::always_inline]] void Ask(int64_t lines) {
    int64_t pairs = (lines + 1) / 2;
    while (pairs > 0 && (pairs_ > 0 || NextPairs())) {
      const int64_t count = std::min(pairs, pairs_);
      for (int64_t i = 0; i < count; ++i) {
        __builtin_prefetch(first_ + i * kLine, 0, kToL2);
        __builtin_prefetch(second_ + i * kLine, 0, kToL2);
      }
      first_ += count * kLine;
      second_ += count * kLine;
      pairs_ -= count;
      pairs -= count;
    }
  }

 private:
  // Lines within half a page.
  struct Lines {
    const char* at = nullptr;
    int64_t count = 0;
  };

  // The next two halves; the lines that the longer one has more are asked for at once. False: there
  // are no more.
  [[gnu::noinline]] bool NextPairs() {
    Lines first = NextLines(), second;
    if (first.count == 0) return false;
    if (reinterpret_cast<uintptr_t>(first.at) / kHalfPage % 2 == 0) {
      // The first half of a page alone: from now on the halves are of two pages.
      second = {first.at + (first.count + 1) / 2 * kLine, first.count / 2};
      first.count -= second.count;
    } else {
      second = NextLines();
    }
    pairs_ = std::min(first.count, second.count);
    first_ = first.at;
    second_ = second.at;
    for (const Lines& lines : {first, second}) {
      for (int64_t i = pairs_; i < lines.count; ++i) __builtin_prefetch(lines.at + i * kLine, 0, kToL2);
    }
    return true;
  }

  Lines NextLines() {
    if (lines_ == 0 && !NextPiece()) return {};
    const int64_t room = kHalfPage - static_cast<int64_t>(
        reinterpret_cast<uintptr_t>(at_) % kHalfPage);
    const Lines lines = {at_, std::min(lines_, (room + kLine - 1) / kLine)};
    at_ += lines.count * kLine;
    lines_ -= lines.count;
    return lines;
  }

  // The rest of a step's keys or values as far as they lie in one block. Keys share their lines with
  // 15 others, values with kTogether. False: there are no more.
  bool NextPiece() {
    if (done_ == count_) {
      if (values_ && (step_ += step_keys_) >= keys_ && !NextTile()) return false;
      values_ = !values_;
      done_ = 0;
      const int64_t unit = values_ ? kTogether<Element> : 16;
      count_ = (std::min(step_keys_, keys_ - step_) + unit - 1) / unit * unit;
    }
    const int64_t key = step_ + done_;
    const int slot = static_cast<int>(key % layout_.block_size);
    const int32_t block =
        args_.block_table[tile_.seq * args_.block_table_stride + key / layout_.block_size];
    const Element* head = static_cast<const Element*>(args_.kv) +
                          layout_.HeadOffset(block, tile_.kv_head);
    const int64_t count = std::min<int64_t>(count_ - done_, layout_.block_size - slot);
    at_ = reinterpret_cast<const char*>(
        head + (values_ ? layout_.ValueOffset(slot, 0) : layout_.KeyOffset(slot, 0)));
    lines_ = count * layout_.head_dim * static_cast<int64_t>(sizeof(Element)) / kLine;
    if constexpr (std::is_same_v<Element, int8_t>) {  // and their scales, at most a line for 32 that have a line each
      const Element* scales = head + (values_ ? layout_.ValueScaleOffset(slot) : layout_.KeyScaleOffset(slot));
      for (int64_t i = 0; i < count * 4; i += kLine) __builtin_prefetch(scales + i, 0, kToL2);
    }
    done_ += count;
    return true;
  }

  bool NextTile() {
    const int64_t group = args_.num_q_heads / layout_.num_kv_heads;
    do {
      if (!tiles_.Next(&tile_)) {
        keys_ = 0;  // asked again, there are still no more
        return false;
      }
    } while (tile_.tokens * group > max_rows_);
    step_ = tile_.keys.begin;
    keys_ = tile_.keys.end;
    return true;
  }

  const AttentionArgs& args_;
  const KvLayout& layout_;
  AttentionTiles tiles_;
  const int64_t max_rows_;
  const int64_t step_keys_;

  // Where the walk is.
  AttentionTile tile_;
  int64_t keys_ = 0;             // the end of the tile's
  int64_t step_ = 0;             // its current step's first key
  bool values_ = true;           // the step's values, or its keys
  int64_t count_ = 0;            // of the step's keys, rounded up
  int64_t done_ = 0;             // of them
  const char* at_ = nullptr;     // the current piece's next line
  int64_t lines_ = 0;            // of the piece that are left
  // Asked for next: pairs of a line at first_ and one at second_.
  const char* first_ = nullptr;
  const char* second_ = nullptr;
  int64_t pairs_ = 0;
};

}  // namespace tiercel::kernels::simd
