// Attention by tdpbf16ps: scores = Q · Kᵀ and P · V in tile registers, K and V straight from the
// cache, whose layout is that of B tiles; the softmax in FP32 by AVX-512 in between.
//
// A tile is up to kMaxRows rows (tokens × the group's query heads, so that they share the keys) of
// one KV head. Keys are taken in steps of kStep from position 0 with an online softmax. All of a
// row's arithmetic is its own, in the order of the keys; keys that a row does not see have p = 0
// and add nothing. So a row's bits depend neither on the other rows of its tile nor on chunking.
// A reused block's stale values are multiplied by those zeros: the cache must hold finite numbers.
//
// The bytes of an INT8 cache are exact in BF16: a step of them is widened in front of the products. A
// key's scale is multiplied to its scores, a value's to its p; a channel's scale of K to q, of V to
// the result.
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/attention_work.h"
#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/amx/tile_config.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::amx {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kPairRows = 2 * kTileRows;  // two A tiles share each B tile
// Keys of a step: 128 KiB of K and V at head_dim 128, read by all row pairs from L2; the scores of
// a row pair (32 KiB) fit beside them. A step's fixed costs (scaling and moving the sums) are
// spread over its keys.
constexpr int64_t kStep = 256;
constexpr int64_t kMaxRows = 128;  // each key read from memory is used 128 times in prefill
constexpr float kLog2E = 0x1.715476p+0f;

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// A worker's scratch, one array after the other, each a multiple of 64 bytes.
struct Scratch {
  BF16* q;       // [rows, head_dim]
  float* acc;    // [rows, head_dim]
  float* scores; // [kPairRows, kStep]
  BF16* p;       // [kPairRows, kStep]
  float* max;    // [rows], in units of log2
  float* sum;    // [rows]
  BF16* keys;    // a step of an INT8 cache, laid out as in a BF16 cache: [kStep, head_dim]
  BF16* values;  // [kStep, head_dim]

  static int64_t Rows(const AttentionArgs& args) {
    const int64_t group = args.num_q_heads / args.layout.num_kv_heads;
    return RoundUp(std::max(kMaxRows, group), kPairRows);
  }
  static int64_t Bytes(const AttentionArgs& args) {
    const int64_t rows = Rows(args), d = args.layout.head_dim;
    const int64_t widened = args.layout.dtype == DType::kI8 ? 2 * kStep * d * 2 : 0;
    return rows * d * (2 + 4) + kPairRows * kStep * (4 + 2) + rows * 8 + widened;
  }
  explicit Scratch(const AttentionArgs& args) {
    const int64_t rows = Rows(args), d = args.layout.head_dim;
    acc = static_cast<float*>(args.scratch);
    scores = acc + rows * d;
    max = scores + kPairRows * kStep;
    sum = max + rows;
    q = reinterpret_cast<BF16*>(sum + rows);
    p = q + rows * d;
    keys = p + kPairRows * kStep;
    values = keys + kStep * d;
  }
};

// n signed bytes, a multiple of 64, as BF16. Asks for the lines from `next` on, if it is not null.
[[gnu::always_inline]] inline void Widen(const int8_t* from, int64_t n, BF16* to,
                                         const int8_t* next) {
  for (int64_t i = 0; i < n; i += 64) {
    if (next != nullptr) _mm_prefetch(next + i, _MM_HINT_T1);
    for (int64_t j = i; j < i + 64; j += 32) {
      const __m512i words = _mm512_cvtepi8_epi16(
          _mm256_load_si256(reinterpret_cast<const __m256i*>(from + j)));
      const __m512i even = _mm512_castps_si512(
          _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 16), 16)));
      const __m512i odd =
          _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_srai_epi32(words, 16)));
      _mm512_store_si512(to + j, _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(even, 16),
                                                         odd));
    }
  }
}

// 2^x for x ≤ 0 to 4e-6: a polynomial of degree 4 for 2^r, r = x − ⌊x⌋, fitted to the least
// relative error with 1 at 0 and 2 at 1. P is rounded to BF16 (4e-3): more digits would be lost.
// scalef takes the floor of its exponent itself.
[[gnu::always_inline]] inline __m512 Exp2(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(0x1.bc31dap-7f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.aa3fcap-5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ee5884p-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62d51cp-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, x);
}

class TileAttention {
 public:
  TileAttention(const AttentionArgs& args, const AttentionTile& tile)
      : args_(args),
        tile_(tile),
        layout_(args.layout),
        s_(args),
        group_(args.num_q_heads / args.layout.num_kv_heads),
        rows_(int64_t{tile.tokens} * group_),
        d_(args.layout.head_dim),
        bytes_(args.layout.dtype == DType::kI8),
        blocks_(args.block_table + tile.seq * args.block_table_stride) {}

  // Rows of the tile registers 0, 1 and 4, which hold scores or sums and queries or p.
  int64_t TileRows() const { return std::min(rows_, kTileRows); }

  // Few rows use each key once: it must come at the memory's speed. So while a step's scores are
  // computed, its values are asked for, and with its values the next step's keys; after the last
  // step those of `next`, the tile that comes after this one (or null).
  void Run(const TileAttention* next) {
    LoadQueries();
    const int64_t keys = Keys();
    for (int64_t key = 0; key < keys; key += kStep) {
      if (bytes_) {
        WidenStep(key, key + kStep < keys ? this : next, key + kStep < keys ? key + kStep : 0);
      } else if (rows_ <= kTileRows) {
        ask_values_ = true;
        ask_keys_of_ = key + kStep < keys ? this : next;
        ask_from_ = key + kStep < keys ? key + kStep : 0;
      }
      for (int64_t row = 0; row < rows_; row += kPairRows) {
        const int64_t rows = std::min(kPairRows, rows_ - row);
        const int64_t seen = std::min(kStep, Visible(row + rows - 1) - key);
        if (seen <= 0) continue;
        // Whole B tiles of V: 32 keys. They lie in one block, as its size is a multiple of 32.
        const int64_t count = RoundUp(seen, 32);
        if (rows > kTileRows) {
          Scores<2>(row, key, count);
        } else {
          Scores<1>(row, key, count);
        }
        for (int64_t r = 0; r < rows; ++r) Softmax(row + r, r, key, count);
        if (rows > kTileRows) {
          Values<2>(row, key, count);
        } else {
          Values<1>(row, key, count);
        }
      }
    }
    StoreRows();
  }

 private:
  int64_t Keys() const { return tile_.first_visible + tile_.tokens - 1; }
  int64_t Visible(int64_t row) const { return tile_.first_visible + row / group_; }
  template <typename Element = BF16>
  const Element* Head(int64_t key) const {
    return static_cast<const Element*>(args_.kv) +
           layout_.HeadOffset(blocks_[key / layout_.block_size], tile_.kv_head);
  }
  int Slot(int64_t key) const { return static_cast<int>(key % layout_.block_size); }
  // The keys (values) first + k …, for k a multiple of 32 in the step that begins at `first`.
  const BF16* KeysAt(int64_t first, int64_t k) const {
    if (bytes_) return s_.keys + k * d_;
    return Head(first + k) + layout_.KeyOffset(Slot(first + k), 0);
  }
  const BF16* ValuesAt(int64_t first, int64_t k) const {
    if (bytes_) return s_.values + k * d_;
    return Head(first + k) + layout_.ValueOffset(Slot(first + k), 0);
  }
  // The tokens' scales of the INT8 keys (values) from `key` on.
  const float* ScalesAt(int64_t key, bool values) const {
    const int slot = Slot(key);
    return reinterpret_cast<const float*>(
        Head<int8_t>(key) +
        (values ? layout_.ValueScaleOffset(slot) : layout_.KeyScaleOffset(slot)));
  }
  // Of this KV head's channels in an INT8 cache; null: 1.
  const float* Channels(const float* scales) const {
    return bytes_ && scales != nullptr ? scales + tile_.kv_head * d_ : nullptr;
  }

  // The INT8 keys and values of the step from `first` on as BF16 in the scratch, asking for those
  // of the step that `next` takes from `next_first` on.
  void WidenStep(int64_t first, const TileAttention* next, int64_t next_first) {
    const int64_t count = RoundUp(std::min(kStep, Keys() - first), 32);
    for (int64_t k = 0; k < count; k += 32) {
      const int8_t* head = Head<int8_t>(first + k);
      const int slot = Slot(first + k);
      const int8_t* ahead = nullptr;
      int ahead_slot = 0;
      if (next != nullptr && next_first + k < next->Keys()) {
        ahead = next->Head<int8_t>(next_first + k);
        ahead_slot = next->Slot(next_first + k);
      }
      Widen(head + layout_.KeyOffset(slot, 0), 32 * d_, s_.keys + k * d_,
            ahead != nullptr ? ahead + layout_.KeyOffset(ahead_slot, 0) : nullptr);
      Widen(head + layout_.ValueOffset(slot, 0), 32 * d_, s_.values + k * d_,
            ahead != nullptr ? ahead + layout_.ValueOffset(ahead_slot, 0) : nullptr);
    }
  }

  // Asks for `lines` cache lines from line `from` on of the keys (or values) key … key + 31.
  // Inlined because GCC takes a function that only prefetches for one without effect.
  [[gnu::always_inline]] void Ask(int64_t key, bool values, int64_t from, int64_t lines) const {
    if (key >= Keys()) return;
    const int slot = static_cast<int>(key % layout_.block_size);
    const char* p = reinterpret_cast<const char*>(
        Head(key) + (values ? layout_.ValueOffset(slot, 0) : layout_.KeyOffset(slot, 0)));
    for (int64_t i = from; i < from + lines; ++i) _mm_prefetch(p + i * 64, _MM_HINT_T1);
  }

  // Padding rows are zeros: their products are computed and never looked at.
  void LoadQueries() {
    const int64_t padded = RoundUp(rows_, TileRows());
    for (int64_t row = 0; row < rows_; ++row) {
      const BF16* q = args_.qkv + (tile_.first_row + row / group_) * args_.ldqkv +
                      (tile_.kv_head * (group_ + 2) + row % group_) * d_;
      std::memcpy(s_.q + row * d_, q, d_ * sizeof(BF16));
      if (const float* channels = Channels(args_.kv_scales.k_scale); channels != nullptr) {
        for (int64_t i = 0; i < d_; i += 16) {
          const __m512 scaled = _mm512_mul_ps(avx512::LoadBF16(q + i), _mm512_loadu_ps(channels + i));
          avx512::StoreBF16(s_.q + row * d_ + i, scaled);
        }
      }
      s_.max[row] = -std::numeric_limits<float>::infinity();
      s_.sum[row] = 0;
    }
    std::memset(s_.q + rows_ * d_, 0, (padded - rows_) * d_ * sizeof(BF16));
    std::memset(s_.acc, 0, padded * d_ * sizeof(float));
  }

  // scores [16 · kTiles, count] = q · kᵀ, 32 keys (two B tiles) at a time.
  template <int kTiles>
  void Scores(int64_t row, int64_t first, int64_t count) {
    const BF16* q = s_.q + row * d_;
    const int64_t q_stride = d_ * sizeof(BF16);
    const int64_t group_size = d_ * 16;  // elements of 16 keys
    constexpr int64_t kStride = kStep * sizeof(float);
    for (int64_t k = 0; k < count; k += 32) {
      const BF16* keys = KeysAt(first, k);
      _tile_zero(0);
      _tile_zero(1);
      if constexpr (kTiles == 2) {
        _tile_zero(2);
        _tile_zero(3);
      }
      for (int64_t i = 0; i < d_; i += 32, keys += 32 * 16) {
        if (ask_values_) Ask(first + k, true, i, 32);
        _tile_loadd(4, q + i, q_stride);
        _tile_loadd(6, keys, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, keys + group_size, 64);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (kTiles == 2) {
          _tile_loadd(5, q + kTileRows * d_ + i, q_stride);
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(3, 5, 7);
        }
      }
      float* out = s_.scores + k;
      _tile_stored(0, out, kStride);
      _tile_stored(1, out + 16, kStride);
      if constexpr (kTiles == 2) {
        _tile_stored(2, out + kTileRows * kStep, kStride);
        _tile_stored(3, out + kTileRows * kStep + 16, kStride);
      }
    }
  }

  // p [r, :] in BF16 from one row's scores; the row's sums so far are scaled to the new maximum.
  // count is a multiple of 32, and so is the work: two vectors of scores make one of p.
  void Softmax(int64_t row, int64_t r, int64_t first, int64_t count) {
    float* s = s_.scores + r * kStep;
    BF16* p = s_.p + r * kStep;
    const int64_t seen = std::min(Visible(row) - first, count);
    if (seen <= 0) {
      std::memset(p, 0, count * sizeof(BF16));
      return;
    }
    const int64_t work = RoundUp(seen, 32);
    for (int64_t k = 0; bytes_ && k < work; k += 32) {
      const float* scales = ScalesAt(first + k, false);
      for (int64_t i = 0; i < 32; i += 16) {
        _mm512_store_ps(s + k + i, _mm512_mul_ps(_mm512_load_ps(s + k + i),
                                                 _mm512_load_ps(scales + i)));
      }
    }
    HideFrom(s, seen, work);
    __m512 max = _mm512_load_ps(s), max2 = _mm512_load_ps(s + 16);
    for (int64_t k = 32; k < work; k += 32) {
      max = _mm512_max_ps(max, _mm512_load_ps(s + k));
      max2 = _mm512_max_ps(max2, _mm512_load_ps(s + k + 16));
    }
    // Scores are scaled and turned to base 2 in the exponent's one FMA.
    const float scale = args_.scale * kLog2E;
    const float before = s_.max[row];
    const float now = std::max(before, _mm512_reduce_max_ps(_mm512_max_ps(max, max2)) * scale);
    const __m512 factor = _mm512_set1_ps(scale), minus_max = _mm512_set1_ps(-now);
    __m512 sum = _mm512_setzero_ps(), sum2 = _mm512_setzero_ps();
    for (int64_t k = 0; k < work; k += 32) {
      __m512 e = Exp2(_mm512_fmadd_ps(_mm512_load_ps(s + k), factor, minus_max));
      __m512 e2 = Exp2(_mm512_fmadd_ps(_mm512_load_ps(s + k + 16), factor, minus_max));
      sum = _mm512_add_ps(sum, e);
      sum2 = _mm512_add_ps(sum2, e2);
      if (bytes_) {
        const float* scales = ScalesAt(first + k, true);
        e = _mm512_mul_ps(e, _mm512_load_ps(scales));
        e2 = _mm512_mul_ps(e2, _mm512_load_ps(scales + 16));
      }
      _mm512_store_si512(p + k, (__m512i)_mm512_cvtne2ps_pbh(e2, e));
    }
    std::memset(p + work, 0, (count - work) * sizeof(BF16));
    const float shrink = _mm512_cvtss_f32(Exp2(_mm512_set1_ps(before - now)));
    s_.sum[row] = s_.sum[row] * shrink + _mm512_reduce_add_ps(_mm512_add_ps(sum, sum2));
    s_.max[row] = now;
    if (now == before) return;  // shrink is 1
    float* acc = s_.acc + row * d_;
    const __m512 f = _mm512_set1_ps(shrink);
    for (int64_t i = 0; i < d_; i += 16) {
      _mm512_store_ps(acc + i, _mm512_mul_ps(_mm512_load_ps(acc + i), f));
    }
  }

  // Scores [seen, work) become −∞, whose p is 0.
  static void HideFrom(float* s, int64_t seen, int64_t work) {
    if (seen == work) return;
    const __mmask32 hidden = ~__mmask32{0} << (seen % 32);
    const __m512 none = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    _mm512_mask_store_ps(s + work - 32, static_cast<__mmask16>(hidden), none);
    _mm512_mask_store_ps(s + work - 16, static_cast<__mmask16>(hidden >> 16), none);
  }

  // acc [16 · kTiles, head_dim] += p · v, 32 columns (two B tiles) at a time.
  template <int kTiles>
  void Values(int64_t row, int64_t first, int64_t count) {
    const int64_t acc_stride = d_ * sizeof(float);
    const int64_t v_stride = d_ * 2 * sizeof(BF16);
    constexpr int64_t kPStride = kStep * sizeof(BF16);
    for (int64_t i = 0; i < d_; i += 32) {
      float* acc = s_.acc + row * d_ + i;
      float* acc2 = acc + kTileRows * d_;
      _tile_loadd(0, acc, acc_stride);
      _tile_loadd(1, acc + 16, acc_stride);
      if constexpr (kTiles == 2) {
        _tile_loadd(2, acc2, acc_stride);
        _tile_loadd(3, acc2 + 16, acc_stride);
      }
      for (int64_t k = 0; k < count; k += 32) {
        const BF16* values = ValuesAt(first, k) + 2 * i;
        _tile_loadd(4, s_.p + k, kPStride);
        _tile_loadd(6, values, v_stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, values + 32, v_stride);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (kTiles == 2) {
          _tile_loadd(5, s_.p + kTileRows * kStep + k, kPStride);
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(3, 5, 7);
        }
        if (ask_keys_of_ != nullptr) ask_keys_of_->Ask(ask_from_ + k, false, i, 32);
      }
      _tile_stored(0, acc, acc_stride);
      _tile_stored(1, acc + 16, acc_stride);
      if constexpr (kTiles == 2) {
        _tile_stored(2, acc2, acc_stride);
        _tile_stored(3, acc2 + 16, acc_stride);
      }
    }
  }

  void StoreRows() {
    for (int64_t row = 0; row < rows_; ++row) {
      BF16* out = args_.out + (tile_.first_row + row / group_) * args_.ldo +
                  (tile_.kv_head * group_ + row % group_) * d_;
      const __m512 factor = _mm512_set1_ps(1.0f / s_.sum[row]);
      const float* channels = Channels(args_.kv_scales.v_scale);
      const float* offsets = Channels(args_.kv_scales.v_offset);
      for (int64_t i = 0; i < d_; i += 16) {
        __m512 mean = _mm512_mul_ps(_mm512_load_ps(s_.acc + row * d_ + i), factor);
        if (channels != nullptr) {
          mean = _mm512_mul_ps(_mm512_sub_ps(mean, _mm512_loadu_ps(offsets + i)),
                               _mm512_loadu_ps(channels + i));
        }
        avx512::StoreBF16(out + i, mean);
      }
    }
  }

  const AttentionArgs& args_;
  const AttentionTile tile_;
  const KvLayout layout_;
  const Scratch s_;
  const int64_t group_;
  const int64_t rows_;
  const int64_t d_;
  const bool bytes_;
  const int32_t* const blocks_;
  // What the current step asks for; null: no keys.
  const TileAttention* ask_keys_of_ = nullptr;
  int64_t ask_from_ = 0;
  bool ask_values_ = false;
};

}  // namespace

int64_t AttentionScratchBytes(const AttentionArgs& args, int) {
  return RoundUp(Scratch::Bytes(args), 64);
}

void Attention(const AttentionArgs& args, Share share) {
  const int group = args.num_q_heads / args.layout.num_kv_heads;
  AttentionTiles tiles(args, share, std::max(1, static_cast<int>(kMaxRows) / group));
  // A decode has few rows: tiles no higher than that take less time to compute, load and store.
  int64_t tile_rows = kTileRows;
  AttentionTile tile, next;
  bool more = tiles.Next(&tile);
  while (more) {
    more = tiles.Next(&next);
    const TileAttention after(args, next);
    TileAttention now(args, tile);
    if (now.TileRows() != tile_rows) {
      tile_rows = now.TileRows();
      TileConfig config;
      for (int t : {0, 1, 4}) config.rows[t] = static_cast<uint8_t>(tile_rows);
      LoadTileConfig(config);
    }
    now.Run(more ? &after : nullptr);
    tile = next;
  }
  if (tile_rows != kTileRows) LoadTileConfig(kFullTiles);
}

}  // namespace tiercel::kernels::amx
