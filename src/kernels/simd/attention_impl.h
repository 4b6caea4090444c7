// Attention over the BF16, INT8 or FP8 cache, once for all vector widths (S is an ISA's Simd): by FP32 FMA, or by products
// of BF16 pairs, where S has them (kPairDot) and makes them of bytes.
//
// A tile is up to kMaxRows rows (tokens × the group's query heads) of one KV head. Keys are taken
// in steps of kStep from position 0 with an online softmax: per row, the scores of a step, their
// maximum, the sums so far scaled to it, then the step's values added key by key; at each segment's
// border the softmax begins anew (attention_sums.h). All of a row's arithmetic is its own, in the
// order of the keys; keys that a row does not see have p = 0 and add nothing. So a row's bits depend
// neither on the other rows of its tile nor on chunking.
//
// Many rows take keys and values in strips, two vectors wide, that are unpacked once for all of them, to FP32 or to BF16
// pairs; few rows unpack them in registers. An element's chain of products is the same. Rows are so many because a strip
// is also read from L2 only once for them.
//
// The bytes of an INT8 cache are taken as they are: a key's scale is multiplied to its scores, a
// value's to its p; a channel's scale of K to q, of V to the result. Those of an FP8 cache, which are one for
// all keys and one for all values, go into the scores' scale and the result.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/e4m3.h"
#include "base/round_up.h"
#include "kernels/attention_work.h"
#include "kernels/ops.h"
#include "kernels/simd/attention_out.h"
#include "kernels/simd/attention_sums.h"
#include "kernels/simd/exp_of_score.h"
#include "kernels/simd/kv_ahead.h"
#include "kernels/simd/kv_head.h"
#include "kernels/simd/kv_products.h"
#include "kernels/simd/kv_strips.h"
#include "kernels/simd/register_tile.h"

namespace tiercel::kernels::simd {

inline constexpr int64_t kStep = 128;    // keys: an unpacked strip of them, 8 or 16 KiB, stays in L1
// Floats from one row's scores to the next one's: were they a power of two, all rows would share a few sets of L1.
inline constexpr int64_t kScores = kStep + 16;
inline constexpr int64_t kMaxRows = 72;  // so many rows share each key that is read
static_assert(kSegmentKeys % kStep == 0);

// A register tile is a block of rows × vectors of keys (or of columns of V), each element one chain
// of FMAs: at least eight chains, which cover the latency of two FMA ports, and no more than there
// are registers. S::kRowBlock rows are the most; decodes have 1, 2, 4 or 8 heads of a group. Vectors of keys
// lie in groups of 16 that share the sets of L1: no more than four. Those of values lie in line.
constexpr int KeyVectors(int rows) { return rows <= 2 ? 4 : 2; }
template <typename S>
constexpr int ValueVectors(int rows) {
  return rows > 2 ? 2 : S::kRowBlock < 12 ? 4 : 8;
}
// The rows of the register tile that takes so many.
template <typename S>
constexpr int TileRows(int64_t rows) {
  return rows <= 2 ? static_cast<int>(rows) : rows <= 4 ? 4 : rows <= 8 ? std::min(8, S::kRowBlock) : S::kRowBlock;
}

// A worker's scratch: FP32 arrays, one after the other. Of S, so that each ISA has its own copy.
template <typename S>
struct AttentionScratch {
  TileRowSums sums;
  float* q;       // [rows, head_dim], scaled
  float* scores;  // [rows, kScores], of few rows [S::kRowBlock, kScores]
  float* strip;   // [max(head_dim, kStep), kStrip]

  static int64_t Rows(const AttentionArgs& args) {
    const int64_t group = args.num_q_heads / args.layout.num_kv_heads;
    return RoundUp(std::max(kMaxRows, group), S::kRowBlock);
  }
  static constexpr int64_t kStrip = 2 * S::kLanes;  // columns: keys, or dimensions of values
  static int64_t Bytes(const AttentionArgs& args) {
    const int64_t rows = Rows(args), d = args.layout.head_dim;
    const int64_t floats = TileRowSums::Floats(rows, d) + rows * (d + kScores) +
                           std::max<int64_t>(d, kStep) * kStrip;
    return (floats * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
  }
  explicit AttentionScratch(const AttentionArgs& args)
      : sums(static_cast<float*>(args.scratch), Rows(args), args.layout.head_dim) {
    q = sums.end;
    scores = q + Rows(args) * args.layout.head_dim;
    strip = scores + Rows(args) * kScores;
  }
};

template <typename S, typename Element>
class TileAttention {
  using V = typename S::V;
  template <int kRows, int kVectors>
  using Tile = RegisterTile<S, kRows, kVectors>;
  static constexpr bool kInt8 = std::is_same_v<Element, int8_t>;
  static constexpr bool kFp8 = std::is_same_v<Element, E4M3>;
  static constexpr int kTogether = kernels::kTogether<Element>;
  static constexpr int64_t kStrip = KvStrips<S, Element>::kColumns;
  static_assert(kStrip == AttentionScratch<S>::kStrip);
  // By an instruction that multiplies BF16 pairs: q stays as it is and p is rounded to BF16.
  static constexpr bool kDot = S::kPairDot;
  // Scores are in units of log2.
  static V Exp2(V x) { return Exp2OfScore<S, kDot>(x); }
  struct Sums : S {
    static V Exp(V x) { return Exp2(x); }
  };
  // What S::Part makes of an E4M3 number is a 256th of it.
  static constexpr float kUnit = kFp8 && !kDot ? 256 : 1;

 public:
  TileAttention(const AttentionArgs& args, const AttentionTile& tile)
      : args_(args),
        tile_(tile),
        layout_(args.layout),
        scratch_(args),
        group_(args.num_q_heads / args.layout.num_kv_heads),
        rows_(int64_t{tile.tokens} * group_),
        kv_(args, tile),
        strips_(kv_, scratch_.strip),
        score_scale_(args.scale * kLog2E * (kFp8 ? args.kv_scales.key : 1) * kUnit),
        sums_(args, tile, scratch_.sums) {}

  void Run(KvAhead<S, Element>* ahead) {
    ahead_ = ahead;
    LoadQueries();
    const auto step = [&](int64_t key) {
      if constexpr (kInt8) TakeScales(key);
      if constexpr (kStrips) {
        if (rows_ >= kStripRows) return StepInStrips(key);
      }
      Step(key);
    };
    if (sums_.Run(kStep, step)) StoreRows();
  }

 private:
  // A block of twelve rows hides the two operations that unpack a vector of BF16 pairs in registers, but
  // not the six of bytes; one of six hides neither. Pairs are in strips because two blocks find them in L1.
  static constexpr bool kStrips = kDot || sizeof(Element) == 1 || S::kRowBlock < 12;
  // As many as let a strip's unpacking, about 400 cycles, take an eighth of the time of its products.
  static constexpr int64_t kStripRows = (KvStrips<S, Element>::kInPlace ? 2 : 4) * S::kRowBlock;

  void Step(int64_t key) {
    for (int64_t row = 0; row < rows_; row += S::kRowBlock) {
      const int64_t rows = std::min<int64_t>(S::kRowBlock, rows_ - row);
      const int64_t count = std::min(kStep, Visible(row + rows - 1) - key);
      if (count <= 0) continue;
      asking_ = row == 0;
      switch (TileRows<S>(rows)) {
        case 1: Block<1>(row, key, count); break;
        case 2: Block<2>(row, key, count); break;
        case 4: Block<4>(row, key, count); break;
        case std::min(8, S::kRowBlock): Block<std::min(8, S::kRowBlock)>(row, key, count); break;
        default: Block<S::kRowBlock>(row, key, count);
      }
    }
  }

  // All rows, in blocks of S::kRowBlock.
  void StepInStrips(int64_t key) {
    constexpr int kRows = S::kRowBlock;
    const int d = layout_.head_dim;
    const int64_t blocks = CeilDiv(rows_, kRows);
    asking_ = true;
    // The keys of the step that a block's rows see, rounded up to vectors.
    const auto seen = [&](int64_t row) {
      const int64_t count = std::clamp<int64_t>(Visible(row + kRows - 1) - key, 0, kStep);
      return RoundUp(count, S::kLanes);
    };
    const int64_t most = seen(rows_ - 1);
    for (int64_t k = 0; k < most; k += kStrip) {
      const KvStrip keys = strips_.Keys(key + k);
      for (int64_t row = 0; row < rows_; row += kRows) {
        Ask(LinesOf(kStrip * d) / blocks);
        if (k >= seen(row)) continue;
        StripScores(row, k, keys);
      }
    }
    for (int64_t row = 0; row < rows_; row += kRows) {
      const int64_t count = seen(row);
      for (int r = 0; count > 0 && r < kRows; ++r) Softmax(row + r, row + r, key, count);
    }
    for (int column = 0; column < d; column += kStrip) {
      const KvStrip values = strips_.Values(key, most, column);
      for (int64_t row = 0; row < rows_; row += kRows) {
        Ask(LinesOf(kStrip * most) / blocks);
        const int64_t count = seen(row);
        if (count == 0) continue;
        StripSums(row, count, column, values);
      }
    }
  }
  static int64_t LinesOf(int64_t elements) { return elements * static_cast<int64_t>(sizeof(Element)) / kLine; }

  // A block's scores of the strip's keys, which are the step's from the k-th on.
  [[gnu::noinline]] void StripScores(int64_t row, int64_t k, const KvStrip& keys) const {
    const int d = layout_.head_dim;
    Tile<S::kRowBlock, 2> tile;
    tile.Clear();
    MultiplyStrip(tile, scratch_.q + row * d, d, d, keys);
    StoreScores(tile, scratch_.scores + row * kScores, k);
  }
  // Its sums += p · the strip's columns of `count` values; = in a segment's first step.
  [[gnu::noinline]] void StripSums(int64_t row, int64_t count, int column, const KvStrip& values) const {
    float* const sums = sums_.acc(row) + column;
    Tile<S::kRowBlock, 2> tile;
    Begin(tile, sums);
    MultiplyStrip(tile, scratch_.scores + row * kScores, kScores, count, values);
    tile.Store(sums, layout_.head_dim);
  }

  // tile += x[:, 0 … count) · strip; rows of x are `stride` floats apart.
  [[gnu::always_inline]] static void MultiplyStrip(Tile<S::kRowBlock, 2>& tile, const float* x, int64_t stride, int64_t count,
                                                   const KvStrip& strip) {
    if constexpr (kDot) {
      const BF16* pairs = PairsOf(x);
      const float* at = strip.at;
      for (const BF16* const end = pairs + count; pairs < end;) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i, pairs += 2, at += strip.next) {
          MultiplyPairs(tile, pairs, 2 * stride, [&](int v) __attribute__((always_inline)) {
            return S::LoadRaw(at + v * strip.vectors);
          });
        }
      }
    } else {
      tile.AddMatrix(x, stride, strip.at, count);
    }
  }

  // The sums of a segment's first step begin with 0.
  template <int kRows, int kVectors>
  [[gnu::always_inline]] void Begin(Tile<kRows, kVectors>& tile, const float* sums) const {
    if (sums_.fresh()) {
      tile.Clear();
    } else {
      tile.Load(sums, layout_.head_dim);
    }
  }

  // scores[:, k …) = q · keys, scaled.
  template <int kRows, int kVectors>
  [[gnu::always_inline]] void StoreScores(Tile<kRows, kVectors>& tile, float* scores, int64_t k) const {
    if constexpr (kDot) tile.Scale([&](int) { return S::Set(score_scale_); });
    if constexpr (kInt8) {
      tile.Scale([&](int v) { return S::Load(key_scales_ + k + v * S::kLanes); });
    }
    tile.Store(scores + k, kScores);
  }

  // Elements of a key between two askings: four lines of a group of 16 keys.
  static constexpr int kAskDims = 4 * kTogether;
  [[gnu::always_inline]] void Ask(int64_t lines) const {
    if (asking_) ahead_->Ask(lines);
  }

  // Rows beyond the tile (padding of the last register tile) see what the last row sees.
  int64_t Visible(int64_t row) const {
    return tile_.first_visible + std::min(row, rows_ - 1) / group_;
  }
  // Those of the INT8 keys and values of the step from `first` on that any row sees, side by side.
  void TakeScales(int64_t first) {
    const int64_t count = std::min(kStep, Visible(rows_ - 1) - first);
    for (int64_t k = 0; k < count; k += kSmallestBlock) {
      const Element* const head = kv_.BlockOf(first + k);
      const int slot = kv_.Slot(first + k);
      std::memcpy(key_scales_ + k, head + layout_.KeyScaleOffset(slot), kSmallestBlock * sizeof(float));
      std::memcpy(value_scales_ + k, head + layout_.ValueScaleOffset(slot), kSmallestBlock * sizeof(float));
    }
  }
  // Of this KV head's channels; null: 1.
  const float* Channels(const float* scales) const {
    return kInt8 && scales != nullptr ? scales + tile_.kv_head * layout_.head_dim : nullptr;
  }

  void LoadQueries() {
    const int d = layout_.head_dim;
    const V scale = S::Set(score_scale_);
    const float* channels = Channels(args_.kv_scales.k_scale);
    const int64_t padded = rows_ <= S::kRowBlock ? TileRows<S>(rows_) : RoundUp(rows_, S::kRowBlock);
    for (int64_t row = 0; row < padded; ++row) {
      const int64_t source = std::min(row, rows_ - 1);
      const BF16* q = args_.qkv + (tile_.first_row + source / group_) * args_.ldqkv +
                      (tile_.kv_head * (group_ + 2) + source % group_) * d;
      for (int i = 0; i < d; i += S::kLanes) {
        V scaled = S::Widen(q + i);
        if (channels != nullptr) scaled = S::Mul(scaled, S::Load(channels + i));
        if constexpr (kDot) {
          S::Narrow(PairsOf(scratch_.q + row * d) + i, scaled);  // exact, see KvScales
        } else {
          S::Store(scratch_.q + row * d + i, S::Mul(scaled, scale));
        }
      }
    }
  }

  template <int kRows>
  void Block(int64_t row, int64_t first, int64_t count) {
    Scores<kRows>(row, first, count);
    for (int r = 0; r < kRows; ++r) Softmax(row + r, r, first, count);
    Values<kRows>(row, first, count);
  }

  // scores[r, key − first] = q · k for the keys of the step.
  template <int kRows>
  void Scores(int64_t row, int64_t first, int64_t count) {
    constexpr int kVectors = KeyVectors(kRows);
    for (int64_t k = 0; k < count;) {
      // The keys of a block lie together, sixteen by sixteen.
      const int slot = kv_.Slot(first + k);
      const int64_t end = std::min<int64_t>(count, k + layout_.block_size - slot);
      // Where the step's first key would be if this block went back so far.
      const Element* const step =
          kv_.BlockOf(first + k) + layout_.KeyOffset(slot, 0) - k * layout_.head_dim;
      for (; k + (kVectors - 1) * S::kLanes < end; k += kVectors * S::kLanes) {
        ScoreTile<kRows, kVectors>(row, first, k, step);
      }
      for (; k < end; k += S::kLanes) ScoreTile<kRows, 1>(row, first, k, step);
    }
  }

  template <int kRows, int kVectors>
  void ScoreTile(int64_t row, int64_t first, int64_t k, const Element* step) {
    const int d = layout_.head_dim;
    const float* q = scratch_.q + row * d;
    const Element* keys[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const int64_t key = k + v * S::kLanes;
      keys[v] = step + key / 16 * (16 * d) + key % 16 * kTogether;
    }
    // Groups of 16 keys, which share their lines, that begin here.
    const int64_t groups = (k + kVectors * S::kLanes + 15) / 16 - (k + 15) / 16;
    Tile<kRows, kVectors> tile;
    tile.Clear();
    const auto add = [&](int i) __attribute__((always_inline)) {
      const auto load = [&](int v) __attribute__((always_inline)) {
        return S::LoadRaw(keys[v] + i * 16);
      };
      if constexpr (kDot) {
        AddPairs<Element>(tile, PairsOf(scratch_.q + row * d) + i, 2 * d, load);
      } else {
        AddParts<Element>(tile, q + i, d, load);
      }
    };
    for (int i = 0; i < d; i += 2 * kTogether) {
      if (i % kAskDims == 0) Ask(groups * kAskDims / kTogether);
      add(i);
      add(i + kTogether);
    }
    StoreScores(tile, scratch_.scores, k);
  }

  // scores of one row become p; its sums so far are scaled to the new maximum.
  void Softmax(int64_t row, int r, int64_t first, int64_t count) {
    const int64_t seen = Visible(row) - first;
    float* const s = scratch_.scores + r * kScores;
    if (seen >= RoundUp(count, S::kLanes)) {  // most rows: all numbers of the vectors
      SoftmaxOf(row, s, count, [](V v, int64_t, V) __attribute__((always_inline)) { return v; });
    } else if (seen > 0) {
      SoftmaxOf(row, s, count, [&](V v, int64_t k, V other) __attribute__((always_inline)) {
        return S::KeepFirst(v, seen - k, other);
      });
    } else {
      std::memset(s, 0, kStep * sizeof(float));
    }
  }

  // keep(v, k, other): v where the row sees the keys from the k-th on, or `other`.
  template <typename Keep>
  [[gnu::always_inline]] void SoftmaxOf(int64_t row, float* s, int64_t count, const Keep& keep) {
    const V none = S::Set(-std::numeric_limits<float>::infinity());
    V max = none;
    for (int64_t k = 0; k < count; k += S::kLanes) max = S::Max(max, keep(S::Load(s + k), k, none));
    const float before = sums_.max_before(row);
    const float now = std::max(before, S::ReduceMax(max));
    const V m = S::Set(now);
    V sum = S::Zero();
    const auto p = [&](int64_t k) __attribute__((always_inline)) {
      const V p = keep(Exp2(S::Sub(S::Load(s + k), m)), k, S::Zero());
      sum = S::Add(sum, p);
      return kInt8 ? S::Mul(p, S::Load(value_scales_ + k)) : p;
    };
    int64_t k = 0;
    if constexpr (kDot) {
      // Pairs take half of the place that they are made from.
      for (; k + S::kLanes < count; k += 2 * S::kLanes) {
        const V low = p(k), high = p(k + S::kLanes);
        S::NarrowPair(PairsOf(s) + k, low, high);
      }
      if (k < count) S::NarrowPair(PairsOf(s) + k, p(k), S::Zero());
    } else {
      for (; k < count; k += S::kLanes) S::Store(s + k, p(k));
    }
    sums_.max(row) = now;
    if (sums_.fresh()) {
      sums_.sum(row) = S::Sum(sum);
      return;
    }
    float factor[S::kLanes];
    S::Store(factor, Exp2(S::Set(before - now)));
    sums_.sum(row) = sums_.sum(row) * factor[0] + S::Sum(sum);
    if (now == before) return;  // the factor is 1
    float* acc = sums_.acc(row);
    for (int i = 0; i < layout_.head_dim; i += S::kLanes) {
      S::Store(acc + i, S::Mul(S::Load(acc + i), S::Set(factor[0])));
    }
  }

  // acc[r, :] += p · v, a pair of keys at a time; = in a segment's first step.
  template <int kRows>
  void Values(int64_t row, int64_t first, int64_t count) {
    constexpr int kVectors = ValueVectors<S>(kRows);
    const int d = layout_.head_dim;
    int i = 0;
    for (; i + kVectors * S::kLanes <= d; i += kVectors * S::kLanes) {
      ValueTile<kRows, kVectors>(row, first, count, i);
    }
    for (; i < d; i += S::kLanes) ValueTile<kRows, 1>(row, first, count, i);
  }

  template <int kRows, int kVectors>
  void ValueTile(int64_t row, int64_t first, int64_t count, int column) {
    const int d = layout_.head_dim;
    float* const sums = sums_.acc(row) + column;
    Tile<kRows, kVectors> tile;
    Begin(tile, sums);
    const int64_t pair = kTogether * d;  // elements of the keys that lie together
    const float* p = scratch_.scores;
    const BF16* pairs = PairsOf(scratch_.scores);  // with kDot
    for (int64_t k = 0; k < count;) {
      const int slot = kv_.Slot(first + k);
      const Element* values = kv_.BlockOf(first + k) + layout_.ValueOffset(slot, column);
      // The keys of a block lie together. p is 0 from the last seen one to the end of its vector.
      const int64_t end = std::min<int64_t>(count, k + layout_.block_size - slot);
      const auto add = [&]() __attribute__((always_inline)) {
        const auto load = [&](int v) __attribute__((always_inline)) {
          return S::LoadRaw(values + kTogether * v * S::kLanes);
        };
        __builtin_prefetch(values + kTogether * kVectors * S::kLanes, 0, kToL1);
        if constexpr (kDot) {
          AddPairs<Element>(tile, pairs, 2 * kScores, load);
        } else {
          AddParts<Element>(tile, p, kScores, load);
        }
        values += pair;
        p += kTogether;
        pairs += kTogether;
      };
      while (k < end) {
        const int64_t keys = std::min<int64_t>(16, RoundUp(end - k, S::kLanes));
        Ask(keys * kVectors * S::kLanes * static_cast<int64_t>(sizeof(Element)) / kLine);
        for (int64_t i = 0; i < keys; i += 2 * kTogether) {
          add();
          add();
        }
        k += keys;
      }
    }
    tile.Store(sums, d);
  }

  void StoreRows() {
    const int d = layout_.head_dim;
    const float scale = kFp8 ? args_.kv_scales.value * kUnit : 1;
    const AttentionOut<S> out(args_);
    for (int64_t row = 0; row < rows_; ++row) {
      const int64_t token = tile_.first_row + row / group_;
      const int64_t column = (tile_.kv_head * group_ + row % group_) * d;
      const V factor = S::Set(scale / sums_.sum(row));
      const float* channels = Channels(args_.kv_scales.v_scale);
      const float* offsets = Channels(args_.kv_scales.v_offset);
      for (int i = 0; i < d; i += S::kLanes) {
        V mean = S::Mul(S::Load(sums_.acc(row) + i), factor);
        if (offsets != nullptr) mean = S::Sub(mean, S::Load(offsets + i));
        if (channels != nullptr) mean = S::Mul(mean, S::Load(channels + i));
        out.Store(token, column + i, mean);
      }
    }
  }

  const AttentionArgs& args_;
  const AttentionTile tile_;
  const KvLayout layout_;
  const AttentionScratch<S> scratch_;
  const int64_t group_;
  const int64_t rows_;
  const KvHead<S, Element> kv_;
  const KvStrips<S, Element> strips_;
  const float score_scale_;  // of q · (what is multiplied as the key)
  TileSums<Sums> sums_;
  KvAhead<S, Element>* ahead_ = nullptr;
  bool asking_ = false;  // of a tile's blocks of rows one asks for the keys and values that all read
  static constexpr int64_t kSmallestBlock = 32;  // tokens: blocks are a multiple of it (KvLayout)
  alignas(64) float key_scales_[kInt8 ? kStep : 1], value_scales_[kInt8 ? kStep : 1];  // of the step
};

template <typename S, typename Element>
void AttentionOver(const AttentionArgs& args, Share share) {
  const int group = args.num_q_heads / args.layout.num_kv_heads;
  const int max_tokens = std::max(1, static_cast<int>(kMaxRows) / group);
  KvAhead<S, Element> ahead(args, share, max_tokens, AttentionScratch<S>::Rows(args), kStep);
  AttentionTiles tiles(args, share, max_tokens);
  AttentionTile tile;
  while (tiles.Next(&tile)) TileAttention<S, Element>(args, tile).Run(&ahead);
}

template <typename S>
void Attention(const AttentionArgs& args, Share share) {
  if (args.layout.dtype == DType::kI8) {
    AttentionOver<S, int8_t>(args, share);
  } else if (args.layout.dtype == DType::kF8E4M3) {
    AttentionOver<S, E4M3>(args, share);
  } else {
    AttentionOver<S, BF16>(args, share);
  }
}

}  // namespace tiercel::kernels::simd
