// ModelQuantizer: writes a float checkpoint with quantized linears, layer by layer: INT8 or four bits as the Ascend
// quantizer has them (ascend_format.h, ascend_int4_format.h), or four bits as compressed-tensors does (packed_format.h).
// Smoothing before it: smoothing.h, awq.h. GGUF files: gguf_quantizer.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "kernels/environment.h"
#include "quantize/layer_linears.h"

namespace tiercel::quantize {

// W8A8, W8A8_DYNAMIC, W8A8_MIX, W4A8_DYNAMIC; compressed-tensors' W4A16
enum class QuantScheme { kStatic, kDynamic, kMix, kW4A8, kInt4 };
constexpr bool IsFourBits(QuantScheme scheme) { return scheme == QuantScheme::kW4A8 || scheme == QuantScheme::kInt4; }
enum class Rounding { kNearest, kGptq, kAwq };  // the last one is to the nearest, of scaled weights

struct QuantizeOptions {
  QuantScheme scheme = QuantScheme::kDynamic;
  Rounding method = Rounding::kNearest;  // of four bits. Others than the nearest need calibration
  int64_t group = 128;                   // of four bits: inputs that share a scale
  double smooth = 0;                 // α; 0: none. Needs calibration
  // kStatic: inputs that lose more than this (InputLoss::one_scale) are quantized per token. 1: none.
  double static_loss = 0.1;
  bool kv_int8 = false;              // scales for an INT8 KV cache (C8), too. Needs calibration
  std::vector<std::string> exclude;  // patterns with * of linears that stay float
  // Token ids, each sequence at most LayerCalibration::kMaxTokens long; empty: no calibration.
  std::vector<std::vector<int32_t>> calibration;
};

// Writes weights, index and quant_model_description.json into `folder`, which exists; returns what config.json's
// quantization_config is to say, or an empty text. Memory: one layer's weights, and with calibration the residual
// stream of its tokens; with GPTQ the products of one layer's inputs, four bytes for each two of a linear's.
Expected<std::string> QuantizeModel(const checkpoint::Checkpoint& checkpoint, const QuantizeOptions& options,
                                    kernels::Environment* environment, const std::string& folder,
                                    const QuantizeCallbacks& callbacks);

}  // namespace tiercel::quantize
