// Attention over an FP8 or INT8 cache by vdpbf16ps, whose numbers become BF16.
#include "base/e4m3.h"
#include "kernels/simd/attention_impl.h"
#include "kernels/x86/avx512/bf16_bytes.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/pair_dot.h"

namespace tiercel::kernels::avx512 {
namespace {

// Indices into 64 lower bytes and, from 64 on, as many upper ones: of each four the first or the second two, whole.
struct Order {
  alignas(64) uint8_t first[64], second[64];
};
constexpr Order MakeOrder() {
  Order order = {};
  for (int i = 0; i < 64; ++i) {
    const int code = i / 4 * 4 + i % 4 / 2;
    order.first[i] = static_cast<uint8_t>(code + i % 2 * 64);
    order.second[i] = static_cast<uint8_t>(code + 2 + i % 2 * 64);
  }
  return order;
}
constexpr Order kOrder = MakeOrder();

// Element: E4M3, or bytes from −127 on.
template <typename Element>
struct BytePairDot : PairDot {
  // Of 16 times four codes the first two of each and the second two, as BF16.
  [[gnu::always_inline]] static void WidenPairs(Raw raw, Raw* first, Raw* second) {
    const Bf16Bytes bytes = BytesOf<Element>(raw);
    *first = _mm512_permutex2var_epi8(bytes.lower, LoadRaw(kOrder.first), bytes.upper);
    *second = _mm512_permutex2var_epi8(bytes.lower, LoadRaw(kOrder.second), bytes.upper);
  }
};

}  // namespace

void AttentionBf16DotVbmi(const AttentionArgs& args, Share share) {
  if (args.layout.dtype == DType::kF8E4M3) {
    simd::AttentionOver<BytePairDot<E4M3>, E4M3>(args, share);
  } else if (args.layout.dtype == DType::kI8 && args.kv_scales.k_offset == nullptr) {
    // q · scale is a BF16 where scales are powers of two.
    simd::AttentionOver<BytePairDot<int8_t>, int8_t>(args, share);
  } else {
    AttentionBf16Dot(args, share);
  }
}

}  // namespace tiercel::kernels::avx512
