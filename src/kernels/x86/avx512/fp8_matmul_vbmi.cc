// FP8 by vdpbf16ps, of BF16 that vpermi2b makes.
#include "kernels/simd/fp8_matmul_impl.h"
#include "kernels/simd/fp8_pair_impl.h"
#include "kernels/x86/avx512/e4m3_bytes.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/vector.h"

namespace tiercel::kernels::avx512 {
namespace {

// Indices into 64 lower bytes and, from 64 on, as many upper ones, of four lines of 16 columns: the pairs of the first two
// lines or of the second two.
struct Order {
  alignas(64) uint8_t first[64], second[64];
};
constexpr Order MakeOrder() {
  Order order = {};
  for (int i = 0; i < 64; ++i) {
    const int code = i / 4 + i % 4 / 2 * 16;
    order.first[i] = static_cast<uint8_t>(code + i % 2 * 64);
    order.second[i] = static_cast<uint8_t>(code + 32 + i % 2 * 64);
  }
  return order;
}
constexpr Order kOrder = MakeOrder();

struct Fp8PairLanes : simd::Fp8Pair<Simd> {
  using W = __m512i;
  static constexpr float kFactor = 1;
  static constexpr int kTileRows = 24;  // sums of 32 registers
  static constexpr int kParts = 2;
  static constexpr int Units(int rows) { return rows <= 2 ? 4 : rows < 8 ? 2 : 1; }
  [[gnu::always_inline]] static void Decode(const uint8_t* p, W (&w)[kParts][1]) {
    const E4M3Bytes bytes = BytesOf(LoadRaw(p));
    w[0][0] = _mm512_permutex2var_epi8(bytes.lower, LoadRaw(kOrder.first), bytes.upper);
    w[1][0] = _mm512_permutex2var_epi8(bytes.lower, LoadRaw(kOrder.second), bytes.upper);
  }
  // From memory to all lanes in the same instruction, which GCC 12 does not make of the intrinsics.
  using Pair [[gnu::may_alias]] = int32_t;
  [[gnu::always_inline]] static const Pair* Broadcast(const BF16* x) { return reinterpret_cast<const Pair*>(x); }
  [[gnu::always_inline]] static V Dot(V sum, const Pair* x, W w) {
    asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*x));
    return sum;
  }
};

}  // namespace

void Fp8MatmulBf16DotVbmi(const MatmulArgs& args, Share share) { simd::Fp8Matmul<Fp8PairLanes>(args, share); }

}  // namespace tiercel::kernels::avx512
