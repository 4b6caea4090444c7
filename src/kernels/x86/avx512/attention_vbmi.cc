// Attention over an FP8 or INT8 cache by vdpbf16ps. Their numbers become BF16, which has all of them, by two tables of 128 bytes,
// which vpermi2b reads.
#include <type_traits>

#include "base/e4m3.h"
#include "kernels/simd/attention_impl.h"
#include "kernels/x86/avx512/kernels.h"
#include "kernels/x86/avx512/pair_dot.h"

namespace tiercel::kernels::avx512 {
namespace {

// The upper and the lower bytes of the BF16 that equal the codes without a sign.
struct Tables {
  alignas(64) uint8_t upper[128], lower[128];
  // mantissa · 2^exponent with mantissa < 256 and an ordinary exponent
  constexpr void Set(int code, int mantissa, int exponent) {
    for (; mantissa > 0 && mantissa < 128; mantissa *= 2) --exponent;
    const int bits = mantissa == 0 ? 0 : (exponent + 7 + 127) << 7 | (mantissa - 128);
    upper[code] = static_cast<uint8_t>(bits >> 8);
    lower[code] = static_cast<uint8_t>(bits);
  }
};
constexpr Tables TablesOfE4M3() {
  Tables tables = {};
  for (int code = 0; code < 128; ++code) {  // of 8 and more: (1 + mantissa / 8) · 2^(exponent − 7)
    const int exponent = code >> 3, mantissa = code & 7;
    tables.Set(code, exponent > 0 ? 8 + mantissa : mantissa, (exponent > 0 ? exponent : 1) - 10);
  }
  return tables;
}
constexpr Tables TablesOfInt8() {
  Tables tables = {};
  for (int code = 0; code < 128; ++code) tables.Set(code, code, 0);
  return tables;
}
constexpr Tables kE4M3 = TablesOfE4M3(), kInt8 = TablesOfInt8();

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
    constexpr bool is_int8 = std::is_same_v<Element, int8_t>;
    constexpr const Tables& tables = is_int8 ? kInt8 : kE4M3;
    const __m512i code = is_int8 ? _mm512_abs_epi8(raw) : raw;  // its low seven bits
    const __m512i magnitude = _mm512_permutex2var_epi8(LoadRaw(tables.upper), code, LoadRaw(tables.upper + 64));
    const __m512i lower = _mm512_permutex2var_epi8(LoadRaw(tables.lower), code, LoadRaw(tables.lower + 64));
    // magnitude | (raw & 0x80)
    const __m512i upper = _mm512_ternarylogic_epi32(magnitude, raw, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
    *first = _mm512_permutex2var_epi8(lower, LoadRaw(kOrder.first), upper);
    *second = _mm512_permutex2var_epi8(lower, LoadRaw(kOrder.second), upper);
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
