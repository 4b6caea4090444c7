// Block formats without dot products. The sums of two products of bytes fit into 16 bits, as |x| ≤ 127:
// 2 · 128 · 127 = 32512.
#include "kernels/arm/neon/block_lanes.h"

namespace tiercel::kernels::neon {
namespace {

struct WideningBlocks : BlockLanes {
  template <int kBits>
  [[gnu::always_inline]] static I Dot(I sum, I codes, const int8_t* x) {
    const int8x16_t quad = Quad(x), w = Signed<kBits>(codes);
    const int16x8_t products = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(quad)), vmull_high_s8(w, quad));
    return Bits(vpadalq_s16(Ints(sum), products));
  }
};

}  // namespace

void BlockMatmul(const BlockMatmulArgs& args, Share share) { simd::BlockMatmul<WideningBlocks>(args, share); }

}  // namespace tiercel::kernels::neon
