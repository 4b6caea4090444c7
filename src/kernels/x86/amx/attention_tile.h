// What the attention of a BF16 and of an INT8 cache by tile registers have in common.
//
// A tile is up to kMaxRows rows (tokens × the group's query heads, so that they share the keys) of
// one KV head. Keys are taken in steps of kStep from position 0 with an online softmax, which begins
// anew at each segment's border (attention_sums.h). All of a row's arithmetic is its own, in the order
// of the keys; keys that a row does not see have p = 0 and add nothing. So a row's bits depend neither
// on the other rows of its tile nor on chunking.
// A reused block's stale values are multiplied by those zeros: the cache must hold finite numbers.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/round_up.h"
#include "kernels/attention_work.h"
#include "kernels/simd/attention_sums.h"
#include "kernels/simd/exp_of_score.h"
#include "kernels/simd/kv_ahead.h"
#include "kernels/x86/amx/tile_config.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::amx {

inline constexpr int64_t kTileRows = 16;
// Keys of a step: 128 KiB of K and V in BF16 at head_dim 128, read by all row blocks from L2; the
// scores of a block (32 KiB) fit beside them. A step's fixed costs (scaling and moving the sums)
// are spread over its keys.
inline constexpr int64_t kStep = 256;
static_assert(kSegmentKeys % kStep == 0);
inline constexpr int64_t kMaxRows = 128;  // each key read from memory is used 128 times in prefill
using simd::kLog2E;

// 2^x for x ≤ 0 to 4e-6: a polynomial of degree 4 for 2^r, r = x − ⌊x⌋, fitted to the least
// relative error with 1 at 0 and 2 at 1. P is rounded to BF16 (4e-3) or to 1.5e-5 of its largest:
// more digits would be lost. scalef takes the floor of its exponent itself.
[[gnu::always_inline]] static inline __m512 Exp2(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(0x1.bc31dap-7f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.aa3fcap-5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ee5884p-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62d51cp-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, x);
}

// Scores are in units of log2.
struct Simd : avx512::Simd {
  static V Exp(V x) { return Exp2(x); }
};
using TileSums = simd::TileSums<Simd>;

// Scores [seen, work) become −∞, whose p is 0; work is seen rounded up to 32.
[[gnu::always_inline]] static inline void HideFrom(float* scores, int64_t seen, int64_t work) {
  if (seen == work) return;
  const __mmask32 hidden = ~__mmask32{0} << (seen % 32);
  const __m512 none = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  _mm512_mask_store_ps(scores + work - 32, static_cast<__mmask16>(hidden), none);
  _mm512_mask_store_ps(scores + work - 16, static_cast<__mmask16>(hidden >> 16), none);
}

// The registers 0 … 3 hold sums: 0 and 1 of 16 rows × 32 columns, with kTiles == 2 also 2 and 3 of the
// 16 rows below.
template <int kTiles>
[[gnu::always_inline]] static inline void ZeroTiles() {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kTiles == 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
}
// To out [16 · kTiles, stride].
template <int kTiles, typename Sum>
[[gnu::always_inline]] static inline void StoreTiles(Sum* out, int64_t stride) {
  const int64_t bytes = stride * static_cast<int64_t>(sizeof(Sum));
  _tile_stored(0, out, bytes);
  _tile_stored(1, out + 16, bytes);
  if constexpr (kTiles == 2) {
    _tile_stored(2, out + kTileRows * stride, bytes);
    _tile_stored(3, out + kTileRows * stride + 16, bytes);
  }
}

struct Amx {};  // names this ISA's instantiations
template <typename Element>
using KvAhead = simd::KvAhead<Amx, Element>;

// A tile's rows and the keys that they see, in a cache of Element (BF16 or int8_t).
template <typename ElementOfCache>
class TileView {
 public:
  using Element = ElementOfCache;

 protected:
  TileView(const AttentionArgs& args, const AttentionTile& tile)
      : args_(args),
        tile_(tile),
        layout_(args.layout),
        group_(args.num_q_heads / args.layout.num_kv_heads),
        rows_(int64_t{tile.tokens} * group_),
        d_(args.layout.head_dim),
        blocks_(args.block_table + tile.seq * args.block_table_stride) {}

  int64_t Visible(int64_t row) const { return tile_.first_visible + row / group_; }
  const BF16* Query(int64_t row) const {
    return args_.qkv + (tile_.first_row + row / group_) * args_.ldqkv +
           (tile_.kv_head * (group_ + 2) + row % group_) * d_;
  }
  // Where a row's d_ outputs go.
  int64_t OutRow(int64_t row) const { return tile_.first_row + row / group_; }
  int64_t OutColumn(int64_t row) const { return (tile_.kv_head * group_ + row % group_) * d_; }
  const Element* Head(int64_t key) const {
    return static_cast<const Element*>(args_.kv) +
           layout_.HeadOffset(blocks_[key / layout_.block_size], tile_.kv_head);
  }
  int Slot(int64_t key) const { return static_cast<int>(key % layout_.block_size); }
  const Element* KeysAt(int64_t key) const { return Head(key) + layout_.KeyOffset(Slot(key), 0); }
  const Element* ValuesAt(int64_t key) const {
    return Head(key) + layout_.ValueOffset(Slot(key), 0);
  }

  // Rows of one tile register use each key once.
  bool IsFew() const { return rows_ <= kTileRows; }

  // Copies the values of `keys` keys from `first` on to `to`, which takes those of `unit`; the rest
  // are zeros. So a step's last B tiles are whole, and no line is read that nobody sees.
  void CopyValues(int64_t first, int64_t keys, int64_t unit, Element* to) const {
    const int64_t count = RoundUp(keys, kTogether<Element>) * d_;
    std::memcpy(to, ValuesAt(first), count * sizeof(Element));
    std::memset(to + count, 0, (unit * d_ - count) * sizeof(Element));
  }

  const AttentionArgs& args_;
  const AttentionTile tile_;
  const KvLayout layout_;
  const int64_t group_;
  const int64_t rows_;
  const int64_t d_;

 private:
  const int32_t* const blocks_;
};

// Runs a share's tiles. Tile is a TileView with Run(KvAhead*), which asks for what it reads if the tile
// IsFew, and Config(), the tile registers that Run needs.
template <typename Tile>
void RunTiles(const AttentionArgs& args, Share share) {
  const int group = args.num_q_heads / args.layout.num_kv_heads;
  const int max_tokens = std::max(1, static_cast<int>(kMaxRows) / group);
  KvAhead<typename Tile::Element> ahead(args, share, max_tokens, kTileRows, kStep);
  AttentionTiles tiles(args, share, max_tokens);
  TileConfig config;
  AttentionTile tile;
  while (tiles.Next(&tile)) {
    Tile now(args, tile);
    if (const TileConfig wanted = now.Config(); !(wanted == config)) {
      config = wanted;
      LoadTileConfig(config);
    }
    now.Run(&ahead);
  }
  if (!(config == kFullTiles)) LoadTileConfig(kFullTiles);
}

}  // namespace tiercel::kernels::amx
