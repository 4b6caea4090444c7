// FP8 by vdpbf16ps, of BF16 that vpermi2b makes.
#include "kernels/simd/fp8_matmul_impl.h"
#include "kernels/x86/avx512/fp8_lines.h"
#include "kernels/x86/avx512/kernels.h"

namespace tiercel::kernels::avx512 {
namespace {

struct Fp8PairLanes : Fp8Lines {
  static constexpr int kTileRows = 24;  // sums of 32 registers
  static constexpr int Units(int rows) { return rows <= 2 ? 4 : rows < 8 ? 2 : 1; }
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
