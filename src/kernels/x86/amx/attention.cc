// Attention over a BF16 cache by tdpbf16ps: scores = Q · Kᵀ and P · V in tile registers, K and V
// straight from the cache, whose layout is that of B tiles; the softmax in FP32 by AVX-512 in between.
#include <cstring>

#include "kernels/simd/attention_out.h"
#include "kernels/x86/amx/attention_int8.h"
#include "kernels/x86/amx/attention_tile.h"
#include "kernels/x86/amx/kernels.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::amx {
namespace {

constexpr int64_t kPairRows = 2 * kTileRows;  // two A tiles share each B tile
// Keys of a whole B tile of V. They lie in one block, as its size is a multiple of 32.
constexpr int64_t kUnit = 32;

// A worker's scratch, one array after the other, each a multiple of 64 bytes.
struct Scratch {
  TileRowSums sums;
  BF16* q;        // [rows, head_dim]
  float* scores;  // [kPairRows, kStep]
  BF16* p;        // [kPairRows, kStep]
  BF16* values;   // [kUnit, head_dim] of a step's last keys, in pairs

  static int64_t Rows(const AttentionArgs& args) {
    const int64_t group = args.num_q_heads / args.layout.num_kv_heads;
    return RoundUp(std::max(kMaxRows, group), kPairRows);
  }
  static int64_t Bytes(const AttentionArgs& args) {
    const int64_t rows = Rows(args), d = args.layout.head_dim;
    return TileRowSums::Floats(rows, d) * 4 + kPairRows * kStep * (4 + 2) + rows * d * 2 + kUnit * d * 2;
  }
  explicit Scratch(const AttentionArgs& args)
      : sums(static_cast<float*>(args.scratch), Rows(args), args.layout.head_dim) {
    scores = sums.end;
    q = reinterpret_cast<BF16*>(scores + kPairRows * kStep);
    p = q + Rows(args) * args.layout.head_dim;
    values = p + kPairRows * kStep;
  }
};

class TileAttention : public TileView<BF16> {
 public:
  TileAttention(const AttentionArgs& args, const AttentionTile& tile)
      : TileView(args, tile),
        s_(args),
        sums_(args, tile, s_.sums) {}

  // A decode has few rows: tiles no higher than that take less time to compute, load and store.
  TileConfig Config() const {
    TileConfig config;
    for (int t : {0, 1, 4}) config.rows[t] = static_cast<uint8_t>(TileRows());
    return config;
  }

  void Run(KvAhead<BF16>* ahead) {
    ahead_ = IsFew() ? ahead : nullptr;
    LoadQueries();
    if (sums_.Run(kStep, [&](int64_t key) { Step(key); })) StoreRows();
  }

 private:
  void Step(int64_t key) {
    for (int64_t row = 0; row < rows_; row += kPairRows) {
      const int64_t rows = std::min(kPairRows, rows_ - row);
      const int64_t seen = std::min(kStep, Visible(row + rows - 1) - key);
      if (seen <= 0) continue;
      const int64_t count = RoundUp(seen, kUnit);
      if (rows > kTileRows) {
        Scores<2>(row, key, seen);
      } else {
        Scores<1>(row, key, seen);
      }
      for (int64_t r = 0; r < rows; ++r) Softmax(row + r, r, key, count);
      if (rows > kTileRows) {
        Values<2>(row, key, seen);
      } else {
        Values<1>(row, key, seen);
      }
    }
  }

  [[gnu::always_inline]] void Ask(int64_t lines) const {
    if (ahead_ != nullptr) ahead_->Ask(lines);
  }

  // Rows of the tile registers 0, 1 and 4, which hold scores or sums and queries or p.
  int64_t TileRows() const { return std::min(rows_, kTileRows); }

  // Padding rows are zeros: their products are computed and never looked at.
  void LoadQueries() {
    const int64_t padded = RoundUp(rows_, TileRows());
    for (int64_t row = 0; row < rows_; ++row) {
      std::memcpy(s_.q + row * d_, Query(row), d_ * sizeof(BF16));
    }
    std::memset(s_.q + rows_ * d_, 0, (padded - rows_) * d_ * sizeof(BF16));
  }

  // scores [16 · kTiles, seen] = q · kᵀ, 32 keys (two B tiles) at a time.
  template <int kTiles>
  void Scores(int64_t row, int64_t first, int64_t seen) {
    for (int64_t k = 0; k < seen; k += 32) {
      if (seen - k > 16) {
        ScoresOfKeys<kTiles, 2>(s_.q + row * d_, KeysAt(first + k), s_.scores + k);
      } else {
        ScoresOfKeys<kTiles, 1>(s_.q + row * d_, KeysAt(first + k), s_.scores + k);
      }
    }
  }

  // Of kGroups · 16 keys. The columns of a second group hold whatever if there is none.
  template <int kTiles, int kGroups>
  [[gnu::always_inline]] void ScoresOfKeys(const BF16* q, const BF16* keys, float* scores) {
    const int64_t q_stride = d_ * sizeof(BF16);
    const int64_t group_size = d_ * 16;  // elements of 16 keys
    ZeroTiles<kTiles>();
    for (int64_t i = 0; i < d_; i += 32, keys += 32 * 16) {
      Ask(kGroups * 16);
      LoadTile<4>(q + i, q_stride);
      LoadTile<6>(keys, 64);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kGroups == 2) {
        LoadTile<7>(keys + group_size, 64);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (kTiles == 2) {
        LoadTile<5>(q + kTileRows * d_ + i, q_stride);
        _tile_dpbf16ps(2, 5, 6);
        if constexpr (kGroups == 2) _tile_dpbf16ps(3, 5, 7);
      }
    }
    StoreTiles<kTiles>(scores, kStep);
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
    HideFrom(s, seen, work);
    __m512 max = _mm512_load_ps(s), max2 = _mm512_load_ps(s + 16);
    for (int64_t k = 32; k < work; k += 32) {
      max = _mm512_max_ps(max, _mm512_load_ps(s + k));
      max2 = _mm512_max_ps(max2, _mm512_load_ps(s + k + 16));
    }
    // Scores are scaled and turned to base 2 in the exponent's one FMA.
    const float scale = args_.scale * kLog2E;
    const float before = sums_.max_before(row);
    const float now = std::max(before, _mm512_reduce_max_ps(_mm512_max_ps(max, max2)) * scale);
    const __m512 factor = _mm512_set1_ps(scale), minus_max = _mm512_set1_ps(-now);
    __m512 sum = _mm512_setzero_ps(), sum2 = _mm512_setzero_ps();
    for (int64_t k = 0; k < work; k += 32) {
      const __m512 e = Exp2(_mm512_fmadd_ps(_mm512_load_ps(s + k), factor, minus_max));
      const __m512 e2 = Exp2(_mm512_fmadd_ps(_mm512_load_ps(s + k + 16), factor, minus_max));
      sum = _mm512_add_ps(sum, e);
      sum2 = _mm512_add_ps(sum2, e2);
      _mm512_store_si512(p + k, (__m512i)_mm512_cvtne2ps_pbh(e2, e));
    }
    std::memset(p + work, 0, (count - work) * sizeof(BF16));
    const float more = _mm512_reduce_add_ps(_mm512_add_ps(sum, sum2));
    sums_.max(row) = now;
    if (sums_.fresh()) {
      sums_.sum(row) = more;
      return;
    }
    const float shrink = _mm512_cvtss_f32(Exp2(_mm512_set1_ps(before - now)));
    sums_.sum(row) = sums_.sum(row) * shrink + more;
    if (now == before) return;  // shrink is 1
    float* acc = sums_.acc(row);
    const __m512 f = _mm512_set1_ps(shrink);
    for (int64_t i = 0; i < d_; i += 16) {
      _mm512_store_ps(acc + i, _mm512_mul_ps(_mm512_load_ps(acc + i), f));
    }
  }

  // acc [16 · kTiles, head_dim] += p · v, 32 columns (two B tiles) at a time; = in a segment's first
  // step.
  template <int kTiles>
  void Values(int64_t row, int64_t first, int64_t seen) {
    const int64_t acc_stride = d_ * sizeof(float);
    const int64_t v_stride = d_ * 2 * sizeof(BF16);
    constexpr int64_t kPStride = kStep * sizeof(BF16);
    // Many rows read the step's values again: whole tiles are no loss.
    const int64_t whole = IsFew() ? seen / kUnit * kUnit : RoundUp(seen, kUnit);
    if (seen > whole) CopyValues(first + whole, seen - whole, kUnit, s_.values);
    const auto add = [&](int64_t k, const BF16* values) __attribute__((always_inline)) {
      LoadTile<4>(s_.p + k, kPStride);
      LoadTile<6>(values, v_stride);
      _tile_dpbf16ps(0, 4, 6);
      LoadTile<7>(values + 32, v_stride);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kTiles == 2) {
        LoadTile<5>(s_.p + kTileRows * kStep + k, kPStride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    };
    for (int64_t i = 0; i < d_; i += 32) {
      float* acc = sums_.acc(row) + i;
      float* acc2 = acc + kTileRows * d_;
      if (sums_.fresh()) {
        ZeroTiles<kTiles>();
      } else {
        LoadTile<0>(acc, acc_stride);
        LoadTile<1>(acc + 16, acc_stride);
        if constexpr (kTiles == 2) {
          LoadTile<2>(acc2, acc_stride);
          LoadTile<3>(acc2 + 16, acc_stride);
        }
      }
      for (int64_t k = 0; k < whole; k += kUnit) {
        add(k, ValuesAt(first + k) + 2 * i);
        Ask(kUnit);
      }
      if (seen > whole) {
        add(whole, s_.values + 2 * i);
        Ask(RoundUp(seen - whole, 2));
      }
      StoreTiles<kTiles>(acc, d_);
    }
  }

  void StoreRows() {
    const simd::AttentionOut<avx512::Simd> out(args_);
    for (int64_t row = 0; row < rows_; ++row) {
      const __m512 factor = _mm512_set1_ps(1.0f / sums_.sum(row));
      for (int64_t i = 0; i < d_; i += 16) {
        out.Store(OutRow(row), OutColumn(row) + i,
                  _mm512_mul_ps(_mm512_load_ps(sums_.acc(row) + i), factor));
      }
    }
  }

  const Scratch s_;
  TileSums sums_;
  KvAhead<BF16>* ahead_ = nullptr;
};

}  // namespace

int64_t AttentionScratchBytes(const AttentionArgs& args, int workers) {
  if (args.layout.dtype == DType::kF8E4M3) return avx512::AttentionScratchBytes(args, workers);
  return RoundUp(args.layout.dtype == DType::kI8 ? AttentionInt8ScratchBytes(args)
                                                 : Scratch::Bytes(args), 64);
}

void Attention(const AttentionArgs& args, Share share) {
  if (args.layout.dtype == DType::kI8) {
    AttentionInt8(args, share);
  } else if (args.layout.dtype == DType::kF8E4M3) {  // there is no tile product of BF16 with bytes
    avx512::AttentionBf16DotVbmi(args, share);
  } else {
    RunTiles<TileAttention>(args, share);
  }
}

}  // namespace tiercel::kernels::amx
