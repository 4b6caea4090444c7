// Attention over an FP8 cache by vdpbf16ps. Its numbers become BF16 by two tables of 128 bytes, which vpermi2b reads.
#include "base/e4m3.h"
#include "kernels/simd/attention_impl.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/pair_dot.h"

namespace tiercel::kernels::avx512 {
namespace {

// The upper and the lower bytes of the BF16 that equal the codes without a sign.
struct Tables {
  alignas(64) uint8_t upper[128], lower[128];
};
constexpr Tables MakeTables() {
  Tables tables = {};
  for (int code = 0; code < 128; ++code) {
    int exponent = code >> 3, mantissa = code & 7;  // 8 and more: mantissa / 8 · 2^(exponent − 7)
    if (exponent > 0) mantissa += 8;
    if (exponent == 0) exponent = 1;
    for (; mantissa > 0 && mantissa < 8; mantissa *= 2) --exponent;
    const int bits = mantissa == 0 ? 0 : (exponent - 7 + 127) << 7 | (mantissa - 8) << 4;
    tables.upper[code] = static_cast<uint8_t>(bits >> 8);
    tables.lower[code] = static_cast<uint8_t>(bits);
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

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

struct Fp8PairDot : PairDot {
  // Of 16 times four codes the first two of each and the second two, as BF16.
  [[gnu::always_inline]] static void WidenPairs(Raw raw, Raw* first, Raw* second) {
    const __m512i magnitude = _mm512_permutex2var_epi8(LoadRaw(kTables.upper), raw, LoadRaw(kTables.upper + 64));
    const __m512i lower = _mm512_permutex2var_epi8(LoadRaw(kTables.lower), raw, LoadRaw(kTables.lower + 64));
    // magnitude | (raw & 0x80)
    const __m512i upper = _mm512_ternarylogic_epi32(magnitude, raw, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
    *first = _mm512_permutex2var_epi8(lower, LoadRaw(kOrder.first), upper);
    *second = _mm512_permutex2var_epi8(lower, LoadRaw(kOrder.second), upper);
  }
};

}  // namespace

void AttentionBf16DotVbmi(const AttentionArgs& args, Share share) {
  if (args.layout.dtype == DType::kF8E4M3) {
    simd::AttentionOver<Fp8PairDot, E4M3>(args, share);
  } else {
    AttentionBf16Dot(args, share);
  }
}

}  // namespace tiercel::kernels::avx512
