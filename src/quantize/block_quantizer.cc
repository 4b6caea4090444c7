#include "quantize/block_quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/bf16.h"
#include "base/check.h"
#include "quantize/group_fit.h"
#include "quantize/super_blocks.h"

namespace tiercel::quantize {
namespace {

using checkpoint::GgufTensorType;

// The low four bits of elements j and j + 16 share a byte; `fifth`, if there is one, gets a word of the fifth bits.
void PutCodes32(const uint8_t* codes, uint8_t* nibbles, uint8_t* fifth) {
  uint32_t bits = 0;
  for (int j = 0; j < 16; ++j) {
    nibbles[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
    bits |= uint32_t{codes[j]} >> 4 << j | uint32_t{codes[j + 16]} >> 4 << (j + 16);
  }
  if (fifth != nullptr) std::memcpy(fifth, &bits, sizeof(bits));
}

template <int kHalf>
void Codes32(const float* w, float scale, uint8_t* codes) {
  const float inverse = Inverse(scale);
  for (int i = 0; i < kGroup; ++i) codes[i] = static_cast<uint8_t>(static_cast<int>(CodeOf<kHalf>(w[i], inverse)) + kHalf);
}

void Q4_0(const float* w, const float* h, uint8_t* out) {
  const float scale = BestScale<8, kGroup>(w, h, Stored);
  uint8_t codes[kGroup];
  Codes32<8>(w, scale, codes);
  PutHalf(scale, out);
  PutCodes32(codes, out + 2, nullptr);
}

void Q5_0(const float* w, const float* h, uint8_t* out) {
  const float scale = BestScale<16, kGroup>(w, h, Stored);
  uint8_t codes[kGroup];
  Codes32<16>(w, scale, codes);
  PutHalf(scale, out);
  PutCodes32(codes, out + 6, out + 2);
}

void Q5_1(const float* w, const float* h, uint8_t* out) {
  const Line best = BestLine<31>(w, h, /*negative_min=*/true);
  const Line line{Stored(best.scale), Stored(best.min)};
  const float inverse = Inverse(line.scale);
  uint8_t codes[kGroup];
  for (int i = 0; i < kGroup; ++i) codes[i] = static_cast<uint8_t>(CodeOf<31>(w[i], line, inverse));
  PutHalf(line.scale, out);
  PutHalf(-line.min, out + 2);
  PutCodes32(codes, out + 8, out + 4);
}

void Q8_0(const float* w, const float* /*h*/, uint8_t* out) {
  const float scale = Stored(std::fabs(Largest(w, kGroup)) / 127);
  const float inverse = Inverse(scale);
  PutHalf(scale, out);
  for (int i = 0; i < kGroup; ++i) {
    const auto code = static_cast<int>(std::max(-127.0f, CodeOf<128>(w[i], inverse)));
    out[2 + i] = static_cast<uint8_t>(code);
  }
}

void ToBF16s(const float* w, int64_t k, uint8_t* out) {
  for (int64_t i = 0; i < k; ++i) {
    const BF16 value = ToBF16(w[i]);
    std::memcpy(out + i * 2, &value, sizeof(value));
  }
}

// How much the square of each weight's error counts: more for large ones, see the header.
std::vector<float> ErrorWeights(const float* w, int64_t k) {
  double sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += double{w[i]} * double{w[i]};
  const auto rms = static_cast<float>(std::sqrt(sum / static_cast<double>(k)));
  std::vector<float> h(static_cast<size_t>(k), 1.0f);
  for (int64_t i = 0; i < k && rms > 0; ++i) h[static_cast<size_t>(i)] = 1 + std::fabs(w[i]) / rms;
  return h;
}

template <void (*Block)(const float*, const float*, uint8_t*)>
void ForEachBlock(checkpoint::GgufBlock block, const float* w, const float* h, int64_t k, uint8_t* out) {
  for (int64_t i = 0; i < k; i += block.elements, out += block.bytes) Block(w + i, h + i, out);
}

}  // namespace

void QuantizeBlocks(GgufTensorType type, const float* w, int64_t k, uint8_t* out) {
  const std::vector<float> weights = ErrorWeights(w, k);
  const float* const h = weights.data();
  const checkpoint::GgufBlock block = *checkpoint::GgufBlockOf(static_cast<uint32_t>(type));
  CHECK_EQ(k % block.elements, 0);
  switch (type) {
    case GgufTensorType::kQ4_0: return ForEachBlock<Q4_0>(block, w, h, k, out);
    case GgufTensorType::kQ5_0: return ForEachBlock<Q5_0>(block, w, h, k, out);
    case GgufTensorType::kQ5_1: return ForEachBlock<Q5_1>(block, w, h, k, out);
    case GgufTensorType::kQ8_0: return ForEachBlock<Q8_0>(block, w, h, k, out);
    case GgufTensorType::kQ4_K: return ForEachBlock<Q4_K>(block, w, h, k, out);
    case GgufTensorType::kQ5_K: return ForEachBlock<Q5_K>(block, w, h, k, out);
    case GgufTensorType::kQ6_K: return ForEachBlock<Q6_K>(block, w, h, k, out);
    case GgufTensorType::kBF16: return ToBF16s(w, k, out);
    case GgufTensorType::kF32: std::memcpy(out, w, static_cast<size_t>(k) * sizeof(float)); return;
    case GgufTensorType::kF16:
    case GgufTensorType::kQ4_1: break;
  }
  CHECK_MSG(false, "{} is not written", checkpoint::GgufTypeName(static_cast<uint32_t>(type)));
}

}  // namespace tiercel::quantize
