// Block formats by SDOT.
#include "kernels/arm/neon/block_lanes.h"

namespace tiercel::kernels::neon {
namespace {

struct DotBlocks : BlockLanes {
  template <int kBits>
  [[gnu::always_inline]] static I Dot(I sum, I codes, const int8_t* x) {
    return Bits(vdotq_s32(Ints(sum), Signed<kBits>(codes), Quad(x)));
  }
};

}  // namespace

void BlockMatmulDot(const BlockMatmulArgs& args, Share share) { simd::BlockMatmul<DotBlocks>(args, share); }

}  // namespace tiercel::kernels::neon
