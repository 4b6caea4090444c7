// Attention over an INT8 cache by tdpbssd, K and V straight from the cache: a decode reads half of a
// BF16 cache's bytes and loads half of its tiles.
//
// q and p are taken as 16-bit integers in two digits, x = s · (256 · high + low), −128 ≤ low ≤ 127,
// s = max|x| / kLargest of a row (of p: of a row's step). Both digits' products with the bytes of K
// or V are exact sums of INT32, so q and p keep more than a BF16's digits for what weighs most, and
// two INT8 products cost as much as one in BF16. A key's scale is multiplied to its scores, a value's
// to its p; a channel's scale of K to q, of V to the result.
//
// A block of 16 rows has its high digits in one tile, its low ones in a second; up to 8 rows have
// both in one, the low digits below the high ones.
#include "kernels/x86/amx/attention_int8.h"

#include <cstring>

#include "kernels/simd/attention_out.h"
#include "kernels/x86/amx/attention_tile.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::amx {
namespace {

// 256 · 127 + 127: the largest number of two such digits.
constexpr float kLargest = 32639;
// Numbers below are taken for zeros: kLargest over it must be finite.
constexpr float kLeast = 1e-33f;

// A worker's scratch, one array after the other, each a multiple of 64 bytes. The digits of row r
// of a block of n rows lie in its rows r and LowRow(n) + r.
struct Scratch {
  TileRowSums sums;
  int32_t* scores;  // [2 · kTileRows, kStep]; a row's softmax turns its high digits' into p in FP32
  int32_t* products;  // [2 · kTileRows, head_dim]: p · v of a step
  float* q_scale;   // [rows], × the scale of the scores and to base 2
  float* p_scale;   // [kTileRows] of a step
  float* shrink;    // [kTileRows]: what a step's new maximum makes of the sums so far
  int8_t* q;        // [2 · rows, head_dim]
  int8_t* p;        // [2 · kTileRows, kStep]
  int8_t* values;   // [64, head_dim] of a step's last keys, in fours

  static int64_t Rows(const AttentionArgs& args) {
    const int64_t group = args.num_q_heads / args.layout.num_kv_heads;
    return RoundUp(std::max(kMaxRows, group), kTileRows);
  }
  static int64_t Bytes(const AttentionArgs& args) {
    const int64_t rows = Rows(args), d = args.layout.head_dim;
    return TileRowSums::Floats(rows, d) * 4 + 2 * kTileRows * (kStep + d) * 4 + rows * 4 +
           2 * kTileRows * 4 + 2 * rows * d + 2 * kTileRows * kStep + 64 * d;
  }
  explicit Scratch(const AttentionArgs& args)
      : sums(static_cast<float*>(args.scratch), Rows(args), args.layout.head_dim) {
    const int64_t rows = Rows(args), d = args.layout.head_dim;
    scores = reinterpret_cast<int32_t*>(sums.end);
    products = scores + 2 * kTileRows * kStep;
    q_scale = reinterpret_cast<float*>(products + 2 * kTileRows * d);
    p_scale = q_scale + rows;
    shrink = p_scale + kTileRows;
    q = reinterpret_cast<int8_t*>(shrink + kTileRows);
    p = q + 2 * rows * d;
    values = p + 2 * kTileRows * kStep;
  }
};

// 16 numbers of at most kLargest in size, rounded, as digits.
[[gnu::always_inline]] inline void StoreDigits(__m512 x, int8_t* high, int8_t* low) {
  const __m512i n = _mm512_cvtps_epi32(x);
  const __m512i rest = _mm512_srai_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(128)), 8);
  _mm_store_si128(reinterpret_cast<__m128i*>(high), _mm512_cvtepi32_epi8(rest));
  _mm_store_si128(reinterpret_cast<__m128i*>(low), _mm512_cvtepi32_epi8(n));  // n − 256 · rest
}

// 256 · high + low
[[gnu::always_inline]] inline __m512 FromDigits(const int32_t* high, const int32_t* low) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(high)), _mm512_set1_ps(256),
                         _mm512_cvtepi32_ps(_mm512_load_si512(low)));
}

class TileAttention : public TileView<int8_t> {
 public:
  TileAttention(const AttentionArgs& args, const AttentionTile& tile)
      : TileView(args, tile),
        s_(args),
        sums_(args, tile, s_.sums),
        depth_(args.layout.head_dim % 64 == 0 && args.layout.block_size % 64 == 0 ? 64 : 32) {}

  TileConfig Config() const {
    TileConfig config;
    const int64_t rows = Together() ? 2 * rows_ : kTileRows;
    for (int t : {0, 1, 4}) config.rows[t] = static_cast<uint8_t>(rows);
    for (int t : {4, 5}) config.bytes_per_row[t] = static_cast<uint16_t>(depth_);
    for (int t : {6, 7}) config.rows[t] = static_cast<uint8_t>(depth_ / 4);
    return config;
  }

  void Run(KvAhead<int8_t>* ahead) {
    ahead_ = IsFew() ? ahead : nullptr;
    LoadQueries();
    if (sums_.Run(kStep, [&](int64_t key) { Step(key); })) StoreRows();
  }

 private:
  void Step(int64_t key) {
    if (IsFew()) AskScales(key);
    for (int64_t row = 0; row < rows_; row += kTileRows) {
      const int64_t rows = std::min(kTileRows, rows_ - row);
      const int64_t seen = std::min(kStep, Visible(row + rows - 1) - key);
      if (seen <= 0) continue;
      // Whole B tiles. They lie in one block, as its size is a multiple of 32 and of depth_.
      const int64_t count = RoundUp(seen, depth_);
      if (Together()) {
        Scores<1>(row, key, seen);
      } else {
        Scores<2>(row, key, seen);
      }
      for (int64_t r = 0; r < rows; ++r) Softmax(row + r, r, key, count);
      if (Together()) {
        Values<1>(key, seen);
      } else {
        Values<2>(key, seen);
      }
      for (int64_t r = 0; r < rows; ++r) {
        if (Visible(row + r) > key) AddStep(row + r, r);
      }
    }
  }

  // Both digits of all rows fit into one tile.
  bool Together() const { return 2 * rows_ <= kTileRows; }
  int64_t LowRow() const { return Together() ? rows_ : kTileRows; }

  [[gnu::always_inline]] void Ask(int64_t lines) const {
    if (ahead_ != nullptr) ahead_->Ask(lines);
  }
  const float* KeyScales(int64_t key) const {
    return reinterpret_cast<const float*>(Head(key) + layout_.KeyScaleOffset(Slot(key)));
  }
  const float* ValueScales(int64_t key) const {
    return reinterpret_cast<const float*>(Head(key) + layout_.ValueScaleOffset(Slot(key)));
  }
  // They come while the step's scores are computed.
  [[gnu::always_inline]] void AskScales(int64_t first) const {
    const int64_t end = std::min(first + kStep, tile_.keys.end);
    for (int64_t key = first; key < end; key += 16) {
      _mm_prefetch(KeyScales(key), _MM_HINT_T0);
      _mm_prefetch(ValueScales(key), _MM_HINT_T0);
    }
  }
  // Of this KV head's channels; null: 1.
  const float* Channels(const float* scales) const {
    return scales != nullptr ? scales + tile_.kv_head * d_ : nullptr;
  }

  // Padding rows hold whatever: their products are computed and never looked at.
  void LoadQueries() {
    const float* channels = Channels(args_.kv_scales.k_scale);
    for (int64_t row = 0; row < rows_; ++row) {
      const BF16* q = Query(row);
      const auto vector = [&](int64_t i) __attribute__((always_inline)) {
        const __m512 v = avx512::LoadBF16(q + i);
        return channels != nullptr ? _mm512_mul_ps(v, _mm512_loadu_ps(channels + i)) : v;
      };
      __m512 magnitude = _mm512_setzero_ps();
      for (int64_t i = 0; i < d_; i += 16) {
        magnitude = avx512::Simd::MaxMagnitude(magnitude, vector(i));
      }
      const float largest = avx512::Simd::ReduceMaxMagnitude(magnitude);
      const __m512 inverse = _mm512_set1_ps(largest < kLeast ? 0 : kLargest / largest);
      int8_t* high = s_.q + (row / kTileRows * 2 * kTileRows + row % kTileRows) * d_;
      for (int64_t i = 0; i < d_; i += 16) {
        StoreDigits(_mm512_mul_ps(vector(i), inverse), high + i, high + LowRow() * d_ + i);
      }
      s_.q_scale[row] = largest / kLargest * args_.scale * kLog2E;
    }
  }

  // scores [16 · kTiles, seen] = q · kᵀ, 32 keys (two B tiles) at a time.
  template <int kTiles>
  void Scores(int64_t row, int64_t first, int64_t seen) {
    for (int64_t k = 0; k < seen; k += 32) {
      if (seen - k > 16) {
        ScoresOfKeys<kTiles, 2>(s_.q + 2 * row * d_, KeysAt(first + k), s_.scores + k);
      } else {
        ScoresOfKeys<kTiles, 1>(s_.q + 2 * row * d_, KeysAt(first + k), s_.scores + k);
      }
    }
  }

  // Of kGroups · 16 keys. The columns of a second group hold whatever if there is none.
  template <int kTiles, int kGroups>
  [[gnu::always_inline]] void ScoresOfKeys(const int8_t* q, const int8_t* keys, int32_t* scores) {
    const int64_t group_size = d_ * 16;  // elements of 16 keys
    ZeroTiles<kTiles>();
    for (int64_t i = 0; i < d_; i += depth_, keys += depth_ * 16) {
      Ask(kGroups * depth_ / 4);
      LoadTile<4>(q + i, d_);
      LoadTile<6>(keys, 64);
      _tile_dpbssd(0, 4, 6);
      if constexpr (kGroups == 2) {
        LoadTile<7>(keys + group_size, 64);
        _tile_dpbssd(1, 4, 7);
      }
      if constexpr (kTiles == 2) {
        LoadTile<5>(q + kTileRows * d_ + i, d_);
        _tile_dpbssd(2, 5, 6);
        if constexpr (kGroups == 2) _tile_dpbssd(3, 5, 7);
      }
    }
    StoreTiles<kTiles>(scores, kStep);
  }

  // The digits of p [r, :] from one row's scores, and by what the row's sums so far shrink. Rows that
  // see none of these keys have p = 0.
  void Softmax(int64_t row, int64_t r, int64_t first, int64_t count) {
    const int32_t* high = s_.scores + r * kStep;
    const int32_t* low = high + LowRow() * kStep;
    float* s = reinterpret_cast<float*>(s_.scores + r * kStep);
    int8_t* p_high = s_.p + r * kStep;
    int8_t* p_low = p_high + LowRow() * kStep;
    const int64_t seen = std::max<int64_t>(0, std::min(Visible(row) - first, count));
    const int64_t work = RoundUp(seen, 32);
    std::memset(p_high + work, 0, count - work);
    std::memset(p_low + work, 0, count - work);
    if (seen == 0) return;

    const __m512 q_scale = _mm512_set1_ps(s_.q_scale[row]);
    for (int64_t k = 0; k < work; k += 32) {
      const float* scales = KeyScales(first + k);
      for (int64_t i = k; i < k + 32; i += 16) {
        const __m512 scale = _mm512_mul_ps(_mm512_load_ps(scales + i - k), q_scale);
        _mm512_store_ps(s + i, _mm512_mul_ps(FromDigits(high + i, low + i), scale));
      }
    }
    HideFrom(s, seen, work);
    __m512 max = _mm512_load_ps(s), max2 = _mm512_load_ps(s + 16);
    for (int64_t k = 32; k < work; k += 32) {
      max = _mm512_max_ps(max, _mm512_load_ps(s + k));
      max2 = _mm512_max_ps(max2, _mm512_load_ps(s + k + 16));
    }
    const float before = sums_.max_before(row);
    const float now = std::max(before, _mm512_reduce_max_ps(_mm512_max_ps(max, max2)));
    const __m512 minus_max = _mm512_set1_ps(now);
    __m512 sum = _mm512_setzero_ps(), sum2 = _mm512_setzero_ps();
    __m512 largest = _mm512_setzero_ps(), largest2 = _mm512_setzero_ps();
    for (int64_t k = 0; k < work; k += 32) {
      const float* scales = ValueScales(first + k);
      __m512 e = Exp2(_mm512_sub_ps(_mm512_load_ps(s + k), minus_max));
      __m512 e2 = Exp2(_mm512_sub_ps(_mm512_load_ps(s + k + 16), minus_max));
      sum = _mm512_add_ps(sum, e);
      sum2 = _mm512_add_ps(sum2, e2);
      e = _mm512_mul_ps(e, _mm512_load_ps(scales));
      e2 = _mm512_mul_ps(e2, _mm512_load_ps(scales + 16));
      largest = _mm512_max_ps(largest, e);
      largest2 = _mm512_max_ps(largest2, e2);
      _mm512_store_ps(s + k, e);
      _mm512_store_ps(s + k + 16, e2);
    }
    const float most = _mm512_reduce_max_ps(_mm512_max_ps(largest, largest2));
    const __m512 inverse = _mm512_set1_ps(most < kLeast ? 0 : kLargest / most);
    for (int64_t k = 0; k < work; k += 16) {
      StoreDigits(_mm512_mul_ps(_mm512_load_ps(s + k), inverse), p_high + k, p_low + k);
    }
    s_.p_scale[r] = most / kLargest;
    const float more = _mm512_reduce_add_ps(_mm512_add_ps(sum, sum2));
    sums_.max(row) = now;
    if (sums_.fresh()) {
      sums_.sum(row) = more;
      return;
    }
    s_.shrink[r] = _mm512_cvtss_f32(Exp2(_mm512_set1_ps(before - now)));
    sums_.sum(row) = sums_.sum(row) * s_.shrink[r] + more;
  }

  // products [16 · kTiles, head_dim] = p · v, 32 columns (two B tiles) at a time.
  template <int kTiles>
  void Values(int64_t first, int64_t seen) {
    const int64_t v_stride = d_ * 4;
    // Many rows read the step's values again: whole tiles are no loss.
    const int64_t whole = IsFew() ? seen / depth_ * depth_ : RoundUp(seen, depth_);
    if (seen > whole) CopyValues(first + whole, seen - whole, depth_, s_.values);
    const auto add = [&](int64_t k, const int8_t* values) __attribute__((always_inline)) {
      LoadTile<4>(s_.p + k, kStep);
      LoadTile<6>(values, v_stride);
      _tile_dpbssd(0, 4, 6);
      LoadTile<7>(values + 64, v_stride);
      _tile_dpbssd(1, 4, 7);
      if constexpr (kTiles == 2) {
        LoadTile<5>(s_.p + kTileRows * kStep + k, kStep);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
    };
    for (int64_t i = 0; i < d_; i += 32) {
      ZeroTiles<kTiles>();
      for (int64_t k = 0; k < whole; k += depth_) {
        add(k, ValuesAt(first + k) + 4 * i);
        Ask(depth_ / 2);
      }
      if (seen > whole) {
        add(whole, s_.values + 4 * i);
        Ask(RoundUp(seen - whole, 4) / 2);
      }
      StoreTiles<kTiles>(s_.products + i, d_);
    }
  }

  void AddStep(int64_t row, int64_t r) {
    const int32_t* high = s_.products + r * d_;
    const int32_t* low = high + LowRow() * d_;
    float* acc = sums_.acc(row);
    const __m512 scale = _mm512_set1_ps(s_.p_scale[r]);
    if (sums_.fresh()) {
      for (int64_t i = 0; i < d_; i += 16) {
        _mm512_store_ps(acc + i, _mm512_mul_ps(FromDigits(high + i, low + i), scale));
      }
      return;
    }
    const __m512 shrink = _mm512_set1_ps(s_.shrink[r]);
    for (int64_t i = 0; i < d_; i += 16) {
      const __m512 before = _mm512_mul_ps(_mm512_load_ps(acc + i), shrink);
      _mm512_store_ps(acc + i, _mm512_fmadd_ps(FromDigits(high + i, low + i), scale, before));
    }
  }

  void StoreRows() {
    const float* channels = Channels(args_.kv_scales.v_scale);
    const float* offsets = Channels(args_.kv_scales.v_offset);
    const simd::AttentionOut<avx512::Simd> out(args_);
    for (int64_t row = 0; row < rows_; ++row) {
      const __m512 factor = _mm512_set1_ps(1.0f / sums_.sum(row));
      for (int64_t i = 0; i < d_; i += 16) {
        __m512 mean = _mm512_mul_ps(_mm512_load_ps(sums_.acc(row) + i), factor);
        if (offsets != nullptr) mean = _mm512_sub_ps(mean, _mm512_loadu_ps(offsets + i));
        if (channels != nullptr) mean = _mm512_mul_ps(mean, _mm512_loadu_ps(channels + i));
        out.Store(OutRow(row), OutColumn(row) + i, mean);
      }
    }
  }

  const Scratch s_;
  TileSums sums_;
  KvAhead<int8_t>* ahead_ = nullptr;
  const int64_t depth_;  // bytes of A's rows: elements of a head in Scores, keys in Values
};

}  // namespace

int64_t AttentionInt8ScratchBytes(const AttentionArgs& args) { return Scratch::Bytes(args); }

void AttentionInt8(const AttentionArgs& args, Share share) { RunTiles<TileAttention>(args, share); }

}  // namespace tiercel::kernels::amx
