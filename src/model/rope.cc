#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace tiercel::model {
namespace {

// theta ^ (2i / dim), rounded once: the exponent is FP32, as in the reference.
float PositionFrequency(double theta, int64_t i, int64_t dim) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
  return static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
}

// The dimension whose wave turns `rotations` times over the original context (YaRN, eq. in 3.2).
double CorrectionDim(double rotations, int64_t dim, double theta, int64_t context) {
  return static_cast<double>(dim) *
         std::log(static_cast<double>(context) / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(theta));
}

// YaRN: high frequencies stay, low ones are interpolated, a linear ramp over the dimensions joins
// the two.
void ApplyYarn(const checkpoint::RopeConfig& config, int64_t dim, int64_t context, RopeTable* table) {
  double low = CorrectionDim(config.beta_fast, dim, config.theta, context);
  double high = CorrectionDim(config.beta_slow, dim, config.theta, context);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;  // the reference's guard against a division by zero
  const float factor = static_cast<float>(config.factor);
  for (int64_t i = 0; i < dim / 2; ++i) {
    const float frequency = PositionFrequency(config.theta, i, dim);
    const float position = (static_cast<float>(i) - static_cast<float>(low)) /
                           static_cast<float>(high - low);
    const float extrapolated = 1.0f - std::clamp(position, 0.0f, 1.0f);
    table->inv_freq[i] = 1.0f / (factor * frequency) * (1.0f - extrapolated) +
                         1.0f / frequency * extrapolated;
  }
  const double derived = config.factor <= 1 ? 1.0 : 0.1 * std::log(config.factor) + 1.0;
  table->attention_factor = static_cast<float>(config.attention_factor.value_or(derived));
}

// Llama 3.1: waves longer than the original context are slowed by `factor`, short ones stay, those
// between are blended.
void ApplyLlama3(const checkpoint::RopeConfig& config, int64_t context, RopeTable* table) {
  const float old_context = static_cast<float>(context);
  const float low = static_cast<float>(config.low_freq_factor);
  const float high = static_cast<float>(config.high_freq_factor);
  const float factor = static_cast<float>(config.factor);
  const float longest = static_cast<float>(static_cast<double>(context) / config.low_freq_factor);
  const float shortest = static_cast<float>(static_cast<double>(context) / config.high_freq_factor);
  for (float& f : table->inv_freq) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / f;
    if (wavelength > longest) {
      f /= factor;
    } else if (wavelength >= shortest) {
      const float smooth = (old_context / wavelength - low) / (high - low);
      f = (1.0f - smooth) * f / factor + smooth * f;
    }
  }
}

}  // namespace

RopeTable MakeRopeTable(const checkpoint::RopeConfig& config, int64_t head_dim,
                        int64_t max_position_embeddings) {
  CHECK_EQ(head_dim % 2, 0);
  RopeTable table;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    table.inv_freq.push_back(1.0f / PositionFrequency(config.theta, i, head_dim));
  }
  const int64_t context = config.original_max_position_embeddings > 0
                              ? config.original_max_position_embeddings
                              : max_position_embeddings;
  switch (config.type) {
    case checkpoint::RopeType::kDefault:
      break;
    case checkpoint::RopeType::kLinear:
      for (float& f : table.inv_freq) f /= static_cast<float>(config.factor);
      break;
    case checkpoint::RopeType::kYarn:
      ApplyYarn(config, head_dim, context, &table);
      break;
    case checkpoint::RopeType::kLlama3:
      ApplyLlama3(config, context, &table);
      break;
  }
  return table;
}

}  // namespace tiercel::model
